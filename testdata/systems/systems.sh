#!/bin/bash
# `make systems`: runs tests of this tree under the kernel of a distribution, in
# a virtual machine. It has the links that the kernel of a laptop, a container
# or CI may lack (VLAN, bond, VRF, GRE, WireGuard): a test that such a kernel
# skips must not be skipped here.
#
# usage: systems.sh SUITE...          bullseye, bookworm, trixie; needs root, the network, no KVM
#
# LAB_WAIT     multiplies every time limit (10: the processor is emulated)
# JOB          is run instead of all jobs: JOB="./internal/survey TestObserveVRF"
#
# roots.sh makes the root of a suite, and a disk of it. The writes of a machine
# to its disk are dropped. It has no network. It sees this tree, read-only, at
# the same path.
#
# Another job is a line of jobs.
set -eu -o pipefail
export LC_ALL=C
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../.." && pwd)
. "$here/roots.sh"
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
		prepare "$suite"
		[ -e "$cache/$suite/disk" ] || die "no kernel of $suite is tried"
	done
	compile
	for suite in "$@"; do
		boot "$suite"
		verdict "$suite"
		table "$suite"
	done
}

# table SUITE: for each kind of uplink, whether its listeners were answered by
# their routes (TestKinds), and (lh:) with return: last-hop (TestUplinkKinds).
table() {
	local kind kernel
	kernel=$(sed -n 's/^== kernel //p' "$work/out")
	[ -n "${head:-}" ] || {
		printf '%-32s' kernel
		printf '%-11s' nic vlan bond dummy wireguard vrf-off lh:vlan lh:bond lh:macvlan lh:bridge
	}
	head=1
	printf '\n%-32s' "$1 $kernel"
	for kind in Kinds/uplink/{nic,vlan,bond,dummy,wireguard,vrf-off} UplinkKinds/{vlan,bond,macvlan,bridge}; do
		if grep -q "^ *--- PASS: Test$kind " "$work/out"; then printf '%-11s' ok; else printf '%-11s' -; fi
	done
	echo
}

# compile: without cgo, so that the programs start if the C library is older.
# The machine has no Go: the `go build` of a test is a copy of lasthop there.
compile() {
	local package tests name
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
		name=$(tr / - <<<"${package#./}").test # two packages have the same last name
		go test -c -o "$work/$name" "$package"
		cat >>"$work/run.sh" <<-END
			echo "== $package $tests"
			cd '$tree/$package' && cp /mnt/job/$name /tmp &&
				/tmp/$name -test.v -test.timeout $at_most -test.run '$tests' ||
				echo "FAIL: $package: exit status \$?"
		END
	done < <(jobs)
	echo 'echo "== kernel $(uname -r)"' >>"$work/run.sh"
	echo 'echo "end of the job"' >>"$work/run.sh"
}

# boot SUITE: shows what the tests print. One thread emulates both processors:
# with two, one may run an int3 that the other has removed again, when the
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

# verdict SUITE: these are failures: a machine that did not reach its end, a
# test that failed or was skipped, and a pattern that names no test.
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
