# shellcheck shell=bash
# Debian trees with another RabbitMQ than this machine's, for RABBITMQ_ROOTFS. For `source`.
#
# A tree is built under another name and renamed when it is complete, so a tree under its own name is never partial. The
# build mounts only in its own namespace, so nothing stays mounted, however it ends.

# In a complete tree, this file holds the version of its RabbitMQ.
TREE_STAMP=.rabbitmq-version

# Prints the Debian suite that ships a series of RabbitMQ. Stable keeps its series. Unstable moves on to the next one
# some day, which the build then reports.
suite_of() {
    case $1 in
    4.0) echo trixie ;;
    4.3) echo sid ;;
    *) die "no Debian release is known for RabbitMQ $1 (known: 4.0, 4.3)" ;;
    esac
}

# tree DIR 4.0|4.3: makes sure that DIR is such a tree, and prints its version.
tree() {
    [ $# = 2 ] || usage
    local dir=$1 series=$2 suite
    suite=$(suite_of "$series")
    mkdir -p "$(dirname "$dir")"
    # One process builds, and the others wait. The lock is on the parent folder, so no file stays, and child processes
    # do not inherit it.
    flock --close "$(dirname "$dir")" "$SELF" build_tree "$dir" "$series" "$suite"
}

build_tree() {
    local dir=$1 series=$2 suite=$3 half=$1.half version begun=$SECONDS
    if [ -e "$dir/$TREE_STAMP" ] && [ -x "$dir$BIN/rabbitmq-server" ]; then
        version=$(< "$dir/$TREE_STAMP")
        [[ $version == "$series".* ]] || die "$dir holds RabbitMQ $version, not $series"
        echo "version=$version"
        return
    fi
    # Our own tree, of which the removal was interrupted.
    [ ! -e "$dir/$TREE_STAMP" ] || rm -rf --one-file-system "$dir"
    [ ! -e "$dir" ] || rmdir "$dir" 2> /dev/null || die "$dir exists and is not one of our trees: remove it, or name another place"
    [ "$(id -u)" = 0 ] || die "building a tree needs root"
    need_debootstrap
    local mirror
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "apt knows no Debian archive to build a tree from"
    say "building a Debian $suite with RabbitMQ $series in $dir (a minute or two, 250 MB)"
    rm -rf --one-file-system "$half"
    if ! unshare --mount --propagation private -- /bin/bash -ec "$(declare -f fill_tree); fill_tree \"\$@\"" \
        fill "$half" "$suite" "$mirror" > "$dir.log" 2>&1 < /dev/null; then
        tail -n 20 "$dir.log" >&2
        die "building $dir failed; the whole output is in $dir.log"
    fi
    # shellcheck disable=SC2016
    version=$(chroot "$half" dpkg-query --showformat '${Version}' --show rabbitmq-server)
    version=${version%%-*}
    [[ $version == "$series".* ]] || die "Debian $suite has RabbitMQ $version now, not $series"
    echo "$version" > "$half/$TREE_STAMP"
    mv "$half" "$dir"
    rm -f "$dir.log"
    say "built in $((SECONDS - begun)) s"
    echo "version=$version"
}

# Runs in its own mount namespace, under -e. It checks the archive's signatures, but not its dates, because an outdated
# mirror is good enough for tests.
fill_tree() {
    local half=$1 suite=$2 mirror=$3 proxy=
    local apt=(chroot "$half" /usr/bin/env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
        apt-get -q -o Acquire::Check-Valid-Until=false -o Acquire::Check-Date=false)
    # If apt uses a proxy, the tree's own apt and debootstrap need it as well.
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    if [ -n "$proxy" ]; then export http_proxy=$proxy; fi
    debootstrap --variant=minbase "$suite" "$half" "$mirror"
    # Packages ask policy-rc.d whether they may start services; 101 means no.
    printf '#!/bin/sh\nexit 101\n' > "$half/usr/sbin/policy-rc.d"
    chmod 755 "$half/usr/sbin/policy-rc.d"
    # The node is named NAME@localhost, and a minimal tree knows no localhost.
    echo "127.0.0.1 localhost" > "$half/etc/hosts"
    mountpoint -q "$half/proc" || mount -t proc proc "$half/proc"
    "${apt[@]}" update
    "${apt[@]}" install -y --no-install-recommends rabbitmq-server
    "${apt[@]}" clean
    rm -rf "$half"/var/lib/apt/lists/*
}

need_debootstrap() {
    if command -v debootstrap > /dev/null; then return; fi
    command -v apt-get > /dev/null || die "debootstrap is missing, and this is not Debian: install it"
    say "installing debootstrap"
    apt-get update -qq >&2 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >&2 || die "installing debootstrap failed"
}

# Prints the Debian archive that apt is configured with. apt knows an archive's origin only once it has its lists.
debian_mirror() {
    local found
    found=$(configured_mirror)
    if [ -z "$found" ]; then
        apt-get update -qq >&2 || true
        found=$(configured_mirror)
    fi
    echo "$found"
}

configured_mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
        awk 'NF == 3 && $2 == "Debian" && $3 == "Debian" && !found { print $1; found = 1 }'
}
