#!/bin/sh
# Runs COMMAND in a fresh root of a distribution, in a clone of this branch:
# does the project build and pass its tests if only git, make and Go are
# installed? It tests only what is committed. Needs root, debootstrap and the
# network.
#
# usage: fresh.sh SUITE [COMMAND]     bullseye, bookworm, trixie, jammy or noble
#
# LASTHOP_ROOTS    keeps roots, packages and compiled Go (/var/cache/lasthop-roots)
# LASTHOP_MIRROR   the mirror of the distribution (its own)
# CI, LAB_WAIT     are handed on
#
# Each run has mount and PID namespaces of its own, and an overlay takes what it
# writes, so that every run starts from the same files and leaves the machine as
# it is. It shares the machine's network, because apt and Go download. The tests
# make their own network namespaces.
set -eu
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

suite=${1:?"usage: fresh.sh SUITE [COMMAND]"}
command=${2:-make demo && make install && make test}
here=$(cd "$(dirname "$0")" && pwd)
trusted=/etc/ssl/certs/ca-certificates.crt
cache=${LASTHOP_ROOTS:-/var/cache/lasthop-roots}

bootstrap() {
	rm -rf "$cache/$suite.new"
	"$here/debootstrap.sh" "$suite" "$cache/$suite.new" git,make,ca-certificates >&2
	mv "$cache/$suite.new" "$cache/$suite"
}

# outside makes the root and enters it.
outside() {
	mkdir -p "$cache/go-build" "$cache/staticcheck" "$cache/$suite.debs/partial"
	[ -d "$cache/$suite" ] || bootstrap
	run=$(mktemp -d "$cache/run.XXXXXX")
	trap cleanup EXIT
	trap 'exit 1' HUP INT TERM
	mkdir "$run/upper" "$run/work" "$run/root"
	git clone -q "$here/../.." "$run/upper/lasthop"
	unshare --mount --pid --fork --kill-child --mount-proc "$0" "$suite" "$command" "$run"
}

cleanup() {
	rm -rf "$run"
	find /sys/fs/cgroup -depth -path "*/lasthop-${run##*/}*" -type d -exec rmdir {} +
}

# inside: the root has to be a mount, because a chroot has no user namespaces.
inside() {
	root=$run/root
	mount -t overlay -o "lowerdir=$cache/$suite,upperdir=$run/upper,workdir=$run/work" overlay "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount -t sysfs sysfs "$root/sys"
	mount -t tmpfs -o mode=755 tmpfs "$root/run"
	mount -t tmpfs tmpfs "$root/tmp"
	# A cgroup of its own, since systemd-analyze moves all processes of the
	# cgroup that it is in.
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
	mkdir "$root/sys/fs/cgroup/lasthop-${run##*/}"
	echo $$ >"$root/sys/fs/cgroup/lasthop-${run##*/}/cgroup.procs"
	umount "$root/sys/fs/cgroup"
	cp -L /etc/resolv.conf "$root/etc/"
	# This machine may trust more than the distribution, a proxy for example.
	[ ! -e $trusted ] || cp -L $trusted "$root$trusted"
	share "$(go env GOROOT)" /usr/local/go ro
	share "$(go env GOMODCACHE)/cache/download" /root/modules ro
	share "$cache/go-build" /root/.cache/go-build
	share "$cache/staticcheck" /root/.cache/staticcheck
	share "$cache/$suite.debs" /var/cache/apt/archives
	# Go downloads from this machine's cache first. -count=1: a test that
	# passed on one distribution has not passed on another.
	set -- PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		HOME=/root GOFLAGS=-count=1 \
		GOPROXY="file:///root/modules,$(go env GOPROXY)" GOSUMDB="$(go env GOSUMDB)" \
		${CI:+"CI=$CI"} ${LAB_WAIT:+"LAB_WAIT=$LAB_WAIT"}
	mkdir "$root/old"
	cd "$root"
	pivot_root . old
	umount -l /old
	cd /lasthop
	exec unshare --cgroup env -i "$@" sh -c "mount -t cgroup2 cgroup2 /sys/fs/cgroup; $command"
}

# share DIRECTORY PLACE [ro]: shows a directory of the machine in the root.
share() {
	mkdir -p "$root$2"
	mount -o "bind,${3:-rw}" "$1" "$root$2"
}

run=${3:-}
if [ "$run" ]; then inside; else outside; fi
