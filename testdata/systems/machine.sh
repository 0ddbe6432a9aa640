#!/bin/bash
# Boots a distribution under its own systemd, as PID 1, with the kernel of this
# machine and namespaces of its own.
#
# usage: machine.sh ROOT JOB COMMAND...     needs root
#
# ROOT is a root of roots.sh, and nothing writes to it. `COMMAND... prepare
# ROOT` changes the machine's files before it boots; it enables the units that
# start. For each line of JOB/boots the machine boots, and powers off or reboots
# by itself; a line is empty, or the reason of the boot. JOB is /mnt/job there;
# `end` in JOB/out says that the last job reached its end. JOB/console has what
# the machine printed.
#
# LAB_WAIT     multiplies every time limit
set -eu -o pipefail
export LC_ALL=C

outside() { # outside ROOT JOB COMMAND...
	local work lock=${1%/root}.lock # of roots.sh, while it makes ROOT
	[ ! -e "$lock" ] || { exec 9<"$lock"; flock -s 9; }
	work=$(mktemp -d)
	trap "rm -rf '$work'" EXIT
	trap 'exit 1' HUP INT TERM
	timeout -k 5 $((300 * ${LAB_WAIT:-1})) unshare --net --mount --cgroup --pid --fork --kill-child \
		--mount-proc --propagation private "$0" --inside "$work" "$@" \
		>"$2/console" 2>&1 </dev/null || :
	grep -qsx end "$2/out" || {
		tail -n 50 "$2"/{console,out} >&2 2>/dev/null || :
		echo "FAIL machine: it ended before the job did"
	}
}

inside() { # inside WORK ROOT JOB COMMAND...
	local work=$1 job=$3 root=$1/files/root
	mkdir "$work/files"
	mount -t tmpfs tmpfs "$work/files"
	mkdir "$work"/files/{upper,work,root} "$work/bpf"
	mount -t overlay -o "lowerdir=$2,upperdir=$work/files/upper,workdir=$work/files/work" overlay "$root"
	rm -f "$root"/etc/systemd/system/*.target.wants/*
	"${@:4}" prepare "$root"
	mount -t tmpfs tmpfs /run
	mount -t sysfs sysfs /sys
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t bpf bpf "$work/bpf"
	local _
	while read -r _; do
		systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --private-network \
			--capability=CAP_NET_ADMIN,CAP_BPF --system-call-filter=bpf \
			--bind="$job:/mnt/job" --bind="$work/bpf:/sys/fs/bpf" --boot </dev/null ||
			[ $? = 133 ] # it reboots
	done <"$job/boots"
}

case ${1:-} in
--inside) inside "${@:2}" ;;
*) outside "$@" ;;
esac
