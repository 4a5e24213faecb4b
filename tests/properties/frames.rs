//! Frames from the broker.

use proptest::{prelude::*, sample::select};

use crate::{
    checks::frames::{check, input},
    generate::anything,
};

/// The content of a value of this kind. Its lengths are mostly right.
fn value(depth: u32) -> BoxedStrategy<Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..12);
    let plain = (select(&b"tbBsUuIilLfdDTVzZ\x00"[..]), bytes()).prop_map(|(kind, mut content)| {
        content.insert(0, kind);
        content
    });
    let fixed = prop_oneof![
        Just(b"t\x01".to_vec()),
        Just(b"V".to_vec()),
        Just(b"l\0\0\0\0\0\0\0\x07".to_vec()),
        bytes().prop_map(|content| long(b'S', &content, 0)),
    ];
    if depth == 0 {
        return prop_oneof![8 => fixed, 1 => plain].boxed();
    }
    let slip = prop_oneof![9 => Just(0), 1 => any::<i8>().prop_map(i64::from), 1 => any::<i64>()];
    let inside =
        (select(&b"FAx"[..]), entries(depth - 1), slip).prop_map(|(kind, content, slip)| long(kind, &content, slip));
    prop_oneof![3 => fixed, 1 => plain, 3 => inside].boxed()
}

/// Names and values, as in a table. An array has no names.
fn entries(depth: u32) -> BoxedStrategy<Vec<u8>> {
    let name =
        prop_oneof![3 => "[a-z]{0,6}".prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..6)];
    let name = prop_oneof![4 => name.prop_map(|name| [&[name.len() as u8][..], &name].concat()), 1 => Just(Vec::new())];
    let entry = (name, value(depth)).prop_map(|(name, value)| [name, value].concat());
    prop::collection::vec(entry, 0..5).prop_map(|entries| entries.concat()).boxed()
}

fn long(kind: u8, content: &[u8], slip: i64) -> Vec<u8> {
    let length = (content.len() as i64).wrapping_add(slip) as u32;
    [&[kind][..], &length.to_be_bytes(), content].concat()
}

proptest! {
    #[test]
    fn frames_of_any_kind_keep_the_rules(bytes in anything("frames")) {
        input(&bytes);
    }

    #[test]
    fn headers_of_any_shape_become_what_lapin_reads(content in entries(4), form in 1u8..3, at_once: u8, flags in any::<u16>()) {
        let rest = if form == 1 { [&flags.to_be_bytes()[..], &content].concat() } else { content };
        input(&[&[at_once, form][..], &rest].concat());
    }

    #[test]
    fn any_depth_and_any_count_are_bounded(depth in 0usize..9_000, kind in select(&b"AF"[..]), many in 0usize..40_000) {
        let mut heads = Vec::new();
        let mut size = many;
        for _ in 0..depth {
            size += usize::from(kind == b'F');
            heads.push(long(kind, &[], size as i64));
            size += 5;
        }
        let mut content = vec![1, b'n'];
        for head in heads.iter().rev() {
            content.extend(head);
            content.extend((kind == b'F').then_some(0));
        }
        content.extend(vec![b'V'; many.max(1)]);
        input(&[&[255, 2][..], &content].concat());
    }

    #[test]
    fn bytes_of_any_kind_end_in_an_error_at_worst(bytes in prop::collection::vec(any::<u8>(), 0..400), at_once in 1usize..50) {
        check(&bytes, at_once);
    }
}
