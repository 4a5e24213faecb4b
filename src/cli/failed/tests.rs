use super::*;

#[test]
fn numbers_for_people() {
    let check = |number, expected: &str| assert_eq!(thousands(number), expected);
    check(0, "0");
    check(999, "999");
    check(1000, "1,000");
    check(12_345, "12,345");
    check(1_234_567, "1,234,567");
    assert_eq!((messages(1), jobs(2_000)), ("1 message".to_owned(), "2,000 jobs".to_owned()));
}
