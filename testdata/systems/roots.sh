# Sourced by the scripts that run machines: the roots of distributions, and two
# versions of the deb to install there.
#
# The root of a suite is made once and kept in
# ${XDG_CACHE_HOME:-~/.cache}/lasthop, in a folder for each suite:
#
#   root/                   the files, as debootstrap leaves them
#   disk, vmlinuz, initrd   the same as a virtual machine boots it (Debian alone)
#   made-of                 packages and unit: if these change, it is made again
#
# Nothing writes to them. A script that uses one holds a shared lock on
# SUITE.lock.
#
# Another suite is a line of kernel_of.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lasthop

die() { echo "systems: error: $*" >&2; exit 1; }

# kernel_of SUITE: the packages of its kernel; none of Ubuntu's is tried, nor
# its keepalived, which debootstrap cannot install.
kernel_of() {
	case $1 in
	bullseye | bookworm | trixie) echo linux-image-amd64 initramfs-tools keepalived ;; # 5.10, 6.1, 6.12
	jammy | noble) ;;
	*) die "no such suite: $1" ;;
	esac
}

packages_of() {
	echo systemd-sysv udev dbus kmod netbase procps iproute2 nftables iputils-ping iputils-arping \
		socat nginx libnginx-mod-stream wireguard-tools $(kernel_of "$1") | tr ' ' ,
}

# prepare SUITE: its root, from the cache or new.
prepare() {
	local dir=$cache/$1 packages made_of
	packages=$(packages_of "$1")
	made_of=$packages$'\n'$(cat "${BASH_SOURCE%/*}/job.service")
	mkdir -p "$cache"
	exec 9>"$cache/$1.lock"
	flock 9
	if ! cmp -s "$dir/made-of" - <<<"$made_of"; then
		echo "systems: making the root of $1" >&2
		rm -rf --one-file-system "$dir" "$dir.new"
		bootstrap "$1" "$packages" "$dir.new" >"$cache/$1.log" 2>&1 || {
			tail -n 50 "$cache/$1.log" >&2
			die "cannot make the root of $1"
		}
		echo "$made_of" >"$dir.new/made-of"
		mv "$dir.new" "$dir"
	fi
	exec 9>&-
}

# bootstrap SUITE PACKAGES DIRECTORY: no service of the packages starts, because
# a machine boots only to a job. debootstrap's mounts in the root, /proc and
# /sys of this machine, end with it, however it ends.
bootstrap() {
	local root=$3/root tools=${BASH_SOURCE%/*}
	mkdir -p "$3" &&
		unshare --mount "$tools/../lab/debootstrap.sh" "$1" "$root" "$2" &&
		rm -rf "$root"/var/lib/apt/lists/* &&
		cp "$tools/job.service" "$root/etc/systemd/system/" || return
	[ -n "$(kernel_of "$1")" ] || return 0
	cp "$root"/boot/vmlinuz-* "$3/vmlinuz" &&
		cp "$root"/boot/initrd.img-* "$3/initrd" &&
		mke2fs -q -t ext4 -O ^metadata_csum -E lazy_itable_init=1,root_owner=0:0 \
			-d "$root" "$3/disk" 6G
}

# debs DIRECTORY: lasthop_1.0.0_amd64.deb and lasthop_1.0.1_amd64.deb, as `make
# packages` builds them.
debs() {
	local version
	for version in 1.0.0 1.0.1; do
		VERSION=$version FORMATS=deb ARCHS=amd64 DIST=$1/$version \
			"${BASH_SOURCE%/*}/../../deploy/packages/build.sh" >&2
		mv "$1/$version"/*.deb "$1/"
	done
}
