#!/bin/bash
# The life of a deb under a systemd that boots, beside an NGINX: install, upgrade, remove, install again, purge. What is in the
# kernel outlives all but a purge; nothing of the package outlives that.
#
# usage: life.sh ROOT OLD.deb NEW.deb    prints "ok STEP" or "FAIL STEP: why"; needs root and systemd-nspawn
#
# ROOT is what debootstrap made of a distribution, with nginx; nothing writes to it. The machine that boots has namespaces of its own.
set -eu
export LC_ALL=C
self=$(cd "$(dirname "$0")" && pwd)/life.sh

outside() {
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	mkdir "$work/job" "$work/bpf" "$work/files"
	cp "$2" "$work/job/old.deb"
	cp "$3" "$work/job/new.deb"
	cp "$self" "$work/job/"
	timeout -k 5 180 unshare --net --mount --cgroup --pid --fork --kill-child --mount-proc --propagation private \
		"$self" machine "$1" "$work" >"$work/console" 2>&1 </dev/null || :
	grep -qsx end "$work/job/out" || { cat "$work/console" "$work/job/out" >&2; echo "FAIL machine: it ended before the job did"; }
	! grep -qs '^FAIL' "$work/job/out" || cat "$work/job/log" >&2
	grep -E '^(ok|FAIL)' "$work/job/out"
	! grep -q '^FAIL' "$work/job/out"
}

machine() { # machine ROOT WORK
	local root=$2/files/root
	mount -t tmpfs tmpfs "$2/files"
	mkdir "$2/files/upper" "$2/files/work" "$root"
	mount -t overlay -o "lowerdir=$1,upperdir=$2/files/upper,workdir=$2/files/work" overlay "$root"
	rm -f "$root"/etc/systemd/system/*.target.wants/* "$root"/etc/nginx/sites-enabled/* "$root"/etc/nginx/modules-enabled/*
	echo 'server { listen 10.0.1.100:80; }' >"$root/etc/nginx/conf.d/site.conf"
	cat >"$root/etc/systemd/system/job.service" <<-END
		[Service]
		Type=oneshot
		ExecStart=/bin/sh -c '/mnt/job/life.sh inside >/mnt/job/out 2>/mnt/job/log; systemctl poweroff'
		[Install]
		WantedBy=multi-user.target
	END
	systemctl --root="$root" enable job
	mount -t tmpfs tmpfs /run
	mount -t sysfs sysfs /sys
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t bpf bpf "$2/bpf"
	exec systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --private-network --boot \
		--capability=CAP_NET_ADMIN,CAP_BPF --system-call-filter=bpf --bind="$2/job:/mnt/job" --bind="$2/bpf:/sys/fs/bpf"
}

inside() {
	cd /mnt/job
	for n in 0 1; do
		ip link add eth$n type veth peer name peer$n
		ip addr add 10.0.$n.100/24 dev eth$n
		ip link set eth$n up
		ip link set peer$n up
	done
	ip route add default via 10.0.0.1
	systemctl start nginx
	for step in install upgrade typo remove clear again by_hand purge; do
		if why=$( (set -e; "$step") 2>&1); then echo "ok $step"; else echo "FAIL $step: ${why//$'\n'/ | }"; fi
	done
	journalctl --no-pager -u lasthop >&2
	echo end
}

fail() { echo "$*"; exit 1; }
# want VALUE COMMAND: it prints just that.
want() { local got; got=$("${@:2}" 2>&1) || :; [ "$got" = "$1" ] || fail "${*:2}: ${got:-nothing}, not ${1:-nothing}"; }
active() { systemctl is-active lasthop; }
enabled() { systemctl is-enabled lasthop; }
# installed: what lasthop has in the kernel.
installed() { ip -N rule | grep 'proto 76'; ip -N route show table all proto 76; ip -o link show group 76 | cut -d: -f2; tc filter show dev eth1 ingress; }
pid() { systemctl show -P MainPID lasthop; }
# works: replies leave by eth1, and for each connection by the router that asked.
works() {
	ip route get 203.0.113.9 from 10.0.1.100 | grep -q 'via 10.0.1.1 dev eth1' || fail "$(ip rule; ip route show table all)"
	tc filter show dev eth1 ingress | grep -q 'lasthop/' || fail "no filter: $(lasthop status)"
}

install() {
	dpkg -i old.deb
	want inactive active
	want disabled enabled
	want "" installed
	id lasthop
	cat >/etc/lasthop/lasthop.yaml <<-END
		interfaces:
		  eth1: {gateways: [10.0.1.1], return: last-hop}
		table_names: true
	END
	dropin
	systemctl enable --now lasthop
	works
}

dropin() {
	mkdir -p /etc/systemd/system/lasthop.service.d
	cp /usr/share/doc/lasthop/lasthop.service.d/last-hop.conf /etc/systemd/system/lasthop.service.d/
	systemctl daemon-reload
}

upgrade() {
	local before state
	before=$(pid) state=$(installed)
	ip -N monitor rule route >changes 2>&1 &
	monitor=$!
	dpkg -i new.deb </dev/null
	want active active
	want enabled enabled
	kill "$monitor"
	[ "$(pid)" != "$before" ] || fail "it was not restarted"
	[ "$(installed)" = "$state" ] || fail "it was $state, it is $(installed)"
	! grep Deleted changes || fail "something was deleted meanwhile"
	grep -q last-hop /etc/lasthop/lasthop.yaml || fail "the settings were replaced"
	works
}

# typo: settings that the new program refuses stop no service, and hide nothing from a removal, which comes next.
typo() {
	local before
	before=$(pid)
	cp /etc/lasthop/lasthop.yaml good.yaml
	echo "bogus: 1" >>/etc/lasthop/lasthop.yaml
	dpkg -i new.deb </dev/null >said 2>&1
	grep -q 'lasthop.yaml:[0-9]*: unknown key "bogus"' said || fail "it says only: $(cat said)"
	grep -q 'goes on with the old program' said || fail "it says only: $(cat said)"
	[ "$(pid)" = "$before" ] || fail "it was restarted"
	want active active
}

remove() {
	local state
	state=$(installed)
	dpkg -r lasthop >said 2>&1
	grep -q 'sh /run/lasthop-undo/clear.sh' said || fail "it says only: $(cat said)"
	[ ! -e /usr/sbin/lasthop ] || fail "the program is there"
	want inactive active
	[ "$(installed)" = "$state" ] || fail "it was $state, it is $(installed)"
	ip route get 203.0.113.9 from 10.0.1.100 | grep 'dev eth1'
}

clear() {
	sh /run/lasthop-undo/clear.sh
	want "" installed
	[ ! -e /sys/fs/bpf/lasthop ] || fail "its maps are there"
	cp good.yaml /etc/lasthop/lasthop.yaml
}

again() {
	dpkg -i new.deb </dev/null
	want enabled enabled # the administrator's word still holds
	want inactive active
	systemctl start lasthop
	works
}

# by_hand: a removal names a daemon that would put back what is taken away, and the tool that its script lacks.
by_hand() {
	local ip
	ip=$(readlink -f "$(command -v ip)")
	systemctl stop lasthop
	lasthop run 2>/dev/null &
	local daemon=$!
	for _ in $(seq 100); do ! lasthop status >/dev/null 2>&1 || break; sleep 0.1; done
	mv "$ip" "$ip.away"
	dpkg -r lasthop >said 2>&1
	mv "$ip.away" "$ip"
	kill "$daemon"
	grep -q 'a lasthop still runs' said || fail "it says only: $(cat said)"
	grep -q 'install iproute2' said || fail "it says only: $(cat said)"
}

purge() {
	dpkg -P lasthop
	want "" installed
	[ ! -e /sys/fs/bpf/lasthop ] || fail "its maps are there"
	rm -r /etc/systemd/system/lasthop.service.d # the administrator's
	want "" find / -xdev -name '*lasthop*'
	want "" find /run -name '*lasthop*' -not -path '/run/systemd/*' # systemd 249 keeps a directory of its own
	systemctl is-active nginx
}

case $1 in
machine) machine "$2" "$3" ;;
inside) inside ;;
*) outside "$@" ;;
esac
