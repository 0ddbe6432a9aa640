#!/bin/sh
# Makes the root of a distribution.
#
# usage: debootstrap.sh SUITE DIRECTORY PACKAGE,PACKAGE...     bullseye, bookworm, trixie, jammy or noble
#
# LASTHOP_MIRROR   the mirror of the distribution (its own)
#
# Debian has no keys for Ubuntu's archive. For a test debootstrap may go without
# them, and inside the root apt has them.
set -eu
PATH=$PATH:/usr/sbin:/sbin
command -v debootstrap >/dev/null || {
	echo "debootstrap is missing: apt-get install debootstrap" >&2
	exit 1
}
suite=$1 root=$2 script=
set -- --variant=minbase --include="$3"
case $suite in
jammy | noble)
	set -- "$@" --no-check-gpg --components=main,universe
	script=gutsy
	;;
esac
debootstrap "$@" "$suite" "$root" "${LASTHOP_MIRROR:-}" $script
rm -rf "$root"/var/cache/apt/archives/*.deb
