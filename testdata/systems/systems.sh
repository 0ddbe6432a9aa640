#!/bin/bash
# `make systems`: runs tests of this tree under the kernel of a distribution, in
# a virtual machine. There are the links that the kernel of a laptop, a container
# or CI may lack (VLAN, bond, VRF, GRE, WireGuard): a test that such a kernel
# skips must not be skipped here.
#
# usage: systems.sh SUITE...          bullseye, bookworm, trixie; needs root, the network, no KVM
#
# LAB_WAIT     multiplies every time limit (10: the processor is emulated)
# JOB          is run instead of all jobs: JOB="./internal/survey TestObserveVRF"
#
# The root of a suite is made once and kept in ${XDG_CACHE_HOME:-~/.cache}/lasthop,
# in a folder for each suite:
#   root/                       the files, as debootstrap leaves them
#   disk, vmlinuz, initrd       the same, as a virtual machine boots it
#   made-of                     packages and unit: with others it is made anew
# Nothing writes to them: what a machine writes to its disk is thrown away. It
# has no network. It sees this tree, read-only, at the same path.
#
# Another suite is a line of kernel_of. Another job is a line of jobs.
set -eu -o pipefail
export LC_ALL=C
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lasthop
mirror=http://deb.debian.org/debian
at_most=45m # for one machine

# jobs: lines "PACKAGE TESTS": the tests of a package that need a machine.
jobs() {
	[ -z "${JOB:-}" ] || { echo "$JOB"; return; }
	cat <<-END
		./routing/flow         TestFilterInKernel
		./internal/survey      TestObserve(Kinds|VRF)
		./cmd/lasthop          TestKinds
		./routing/flow/lasthop Test(UplinkKinds|Traffic|FailStatic)
	END
}

# kernel_of SUITE: the package of its kernel.
kernel_of() {
	case $1 in
	bullseye | bookworm | trixie) echo linux-image-amd64 ;; # 5.10, 6.1, 6.12
	*) die "no such suite: $1" ;;
	esac
}

packages_of() {
	echo "$(kernel_of "$1"),initramfs-tools,systemd-sysv,udev,dbus,kmod,netbase,procps,iproute2" \
		"nftables,iputils-ping,socat,nginx,libnginx-mod-stream,wireguard-tools" | tr ' ' ,
}

die() { echo "systems: error: $*" >&2; exit 1; }

main() {
	[ $# -gt 0 ] || die "usage: systems.sh SUITE..."
	[ "$(id -u)" = 0 ] || die "making the root of a distribution needs root: sudo -E make systems"
	[ "$(uname -m)" = x86_64 ] || die "only for x86_64"
	"$here/../lab/deps.sh" systems
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	local suite
	for suite in "$@"; do
		kernel_of "$suite" >/dev/null
		prepare "$suite"
	done
	compile
	for suite in "$@"; do
		boot "$suite"
		verdict "$suite"
	done
}

# prepare SUITE: its root and disk, from the cache or new.
prepare() {
	local dir=$cache/$1 packages made_of
	packages=$(packages_of "$1")
	made_of=$packages$'\n'$(cat "$here/job.service")
	mkdir -p "$cache"
	exec 9>"$cache/$1.lock"
	flock 9
	if ! cmp -s "$dir/made-of" - <<<"$made_of"; then
		echo "systems: making the root of $1" >&2
		rm -rf --one-file-system "$dir" "$dir.new"
		bootstrap "$1" "$packages" "$dir.new" >"$work/log" 2>&1 || {
			tail -n 50 "$work/log" >&2
			die "cannot make the root of $1"
		}
		echo "$made_of" >"$dir.new/made-of"
		mv "$dir.new" "$dir"
	fi
	exec 9>&-
}

# bootstrap SUITE PACKAGES DIRECTORY: no service of the packages starts, for a
# machine boots to job.service alone. What debootstrap mounts in the root, /proc
# and /sys of this machine, is gone with it, however it ends.
bootstrap() {
	local root=$3/root
	mkdir -p "$3" &&
		unshare --mount debootstrap --variant=minbase --include="$2" "$1" "$root" $mirror &&
		rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* &&
		cp "$here/job.service" "$root/etc/systemd/system/" &&
		cp "$root"/boot/vmlinuz-* "$3/vmlinuz" &&
		cp "$root"/boot/initrd.img-* "$3/initrd" &&
		mke2fs -q -t ext4 -O ^metadata_csum -E lazy_itable_init=1,root_owner=0:0 \
			-d "$root" "$3/disk" 6G
}

# compile: without cgo, so that the programs start where the C library is older.
# The machine has no Go: the `go build` of a test is a copy of lasthop there.
compile() {
	local package tests
	export CGO_ENABLED=0
	cd "$tree"
	go build -trimpath -o "$work/lasthop" ./cmd/lasthop
	cat >"$work/run.sh" <<-END
		export LAB_WAIT=${LAB_WAIT:-10} HOME=/root PATH=/tmp:/usr/sbin:/usr/bin:/sbin:/bin
		mkdir -p '$tree'
		mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144 tree '$tree'
		printf '#!/bin/sh\nuntil [ "\$1" = -o ]; do shift; done; cp /mnt/job/lasthop "\$2"\n' >/tmp/go
		chmod 755 /tmp/go
	END
	while read -r package tests; do
		go test -c -o "$work/${package##*/}.test" "$package"
		cat >>"$work/run.sh" <<-END
			echo "== $package $tests"
			cd '$tree/$package' && cp /mnt/job/${package##*/}.test /tmp &&
				/tmp/${package##*/}.test -test.v -test.timeout $at_most -test.run '$tests' ||
				echo "FAIL: $package: exit status \$?"
		END
	done < <(jobs)
	echo 'echo "end of the job"' >>"$work/run.sh"
}

# boot SUITE: shows what the tests print. One thread emulates both processors:
# with two, one may run an int3 that the other has taken away again, where the
# kernel switches a jump label, and Linux 6.12 dies of that.
boot() {
	local dir=$cache/$1
	echo "systems: $1" >&2
	timeout "$at_most" qemu-system-x86_64 -accel tcg,thread=single -cpu max -m 3072 -smp 2 \
		-display none -vga none -monitor none -no-reboot -nic none -device virtio-rng-pci \
		-kernel "$dir/vmlinuz" -initrd "$dir/initrd" \
		-drive "file=$dir/disk,if=virtio,format=raw,snapshot=on" \
		-virtfs "local,path=$work,mount_tag=job,security_model=none,readonly=on" \
		-virtfs "local,path=$tree,mount_tag=tree,security_model=none,readonly=on" \
		-serial "file:$work/console" -serial stdio \
		-append "console=ttyS0 panic=-1 root=/dev/vda rw quiet systemd.unit=job.service" \
		</dev/null | tee "$work/out" || {
		tail -n 30 "$work/console" >&2
		die "$1: the machine did not end by itself"
	}
}

# verdict SUITE: a machine that did not come to its end, a test that failed or was
# skipped, and a pattern that names no test are failures.
verdict() {
	grep -qx "end of the job" "$work/out" || {
		tail -n 30 "$work/console" >&2
		die "$1: the machine ended before the tests did"
	}
	! grep -E '^ *--- (FAIL|SKIP)|^testing: warning: no tests to run|^FAIL|^panic:' "$work/out" >"$work/wrong" || {
		cat "$work/wrong" >&2
		die "$1: these failed or were skipped"
	}
	echo "systems: $1: $(grep -c '^ *--- PASS' "$work/out") tests passed" >&2
}

main "$@"; exit
