#!/bin/bash
# Tries deploy/lasthop.service, as `make install` installs it, under a systemd
# that is PID 1, with the NGINX of a distribution: does everything that `lasthop
# run` does work inside of the unit's sandbox?
#
# usage: unit.sh ROOT LASTHOP      boots ROOT; prints "ok NAME" or "FAIL NAME: why"; needs root
#        unit.sh here LASTHOP      the same in a virtual machine, whose files it changes
#
# ROOT is a root of roots.sh, which machine.sh boots.
#
# LAB_WAIT     multiplies every time limit
# KEEP         a directory for what the machine logs
set -eu
self=$(cd "$(dirname "$0")" && pwd)/unit.sh
. "${self%/*}/clients.sh"

outside() { # outside ROOT LASTHOP
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	echo once >"$work/boots"
	"${self%/*}/machine.sh" "$1" "$work" "$self" "$2"
	[ -z "${KEEP:-}" ] || cp "$work"/* "$KEEP"
	! [ -e "$work/out" ] || grep -vx end "$work/out"
}

# here LASTHOP: in a machine that may be lost, and runs systemd.
here() {
	prepare / "$1"
	systemctl daemon-reload
	systemctl start links nginx lasthop
	inside
}

prepare() { # prepare ROOT LASTHOP
	local units=$1/etc/systemd/system
	cd "${self%/*}/../.."
	LASTHOP=$2 DESTDIR=$1 PREFIX=/usr UNITDIR=/lib/systemd/system deploy/install.sh
	systemd-sysusers --root="$1"
	systemd-tmpfiles --root="$1" --create lasthop.conf
	journalctl --root="$1" --update-catalog
	cp "$self" "${self%/*}/clients.sh" "$1/"
	# The uplinks come up while lasthop starts, not before it.
	unit DefaultDependencies=no After=network-pre.target Before=network-online.target \
		"[Service]" Type=oneshot RemainAfterExit=yes "ExecStart=/unit.sh links" >"$units/links.service"
	unit After=lasthop.service After=nginx.service "[Service]" Type=oneshot "Environment=LAB_WAIT=$wait" \
		"ExecStart=/bin/sh -c '/unit.sh inside >/mnt/job/out 2>&1; systemctl poweroff'" >"$units/job.service"
	systemctl --root="$1" enable nginx lasthop links job
	configure "$1"
}

# configure ROOT: NGINX's files are root's alone.
configure() {
	rm -f "$1"/etc/nginx/sites-enabled/* "$1"/etc/nginx/modules-enabled/*
	listens 10.0.0.100:80 10.0.1.100:80 web.example:81 >"$1/etc/nginx/conf.d/site.conf"
	chmod 700 "$1/etc/nginx" "$1/etc/nginx/conf.d"
	chmod 600 "$1/etc/nginx/nginx.conf" "$1/etc/nginx/conf.d/site.conf"
	echo "10.0.3.100 web.example" >>"$1/etc/hosts"
	settings >"$1/etc/lasthop/lasthop.yaml"
}

settings() { # settings [LINE...]; RETURN is the mode of eth1
	local n
	echo "interfaces:"
	echo "  eth1: {gateways: [10.0.1.1], return: ${RETURN:-strict}}"
	for n in 2 3 4 5 6 7; do echo "  eth$n: {gateways: [10.0.$n.1]}"; done
	echo "table_names: true"
	echo 'metrics: {listen: "127.0.0.1:9176"}'
	printf '%s\n' "$@"
}

listens() { # listens ADDRESS...
	echo "server {"
	printf 'listen %s;\n' "$@"
	echo "}"
}

nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
shows() { grep -qE "$1" <<<"$("${@:2}" 2>&1)"; } # shows PATTERN COMMAND
ask() { printf 'GET %s HTTP/1.0\r\n\r\n' "$2" | socat - "$1"; } # ask ADDRESS PATH
log() { journalctl -u lasthop -o cat --no-pager "$@"; }
# since ARGUMENT...: the journal from mark on. A cursor would skip the first line (systemd 252).
mark() { begun=$(date +%s.%6N); }
since() { journalctl -q --no-pager -o cat --since="@$begun" "$@"; }
master() { cat /run/nginx.pid; }

copy() { # copy DIRECTORY ADDRESS...: another NGINX's files
	cp -r /etc/nginx "$1"
	sed -i 's|/run/nginx.pid|/run/other.pid|' "$1/nginx.conf"
	listens "${@:2}" >"$1/conf.d/site.conf"
}

reload() { # reload ADDRESS...
	listens "$@" >/etc/nginx/conf.d/site.conf
	now systemctl reload nginx
}

starts_at_boot() {
	now systemctl is-active lasthop nginx
	local ready begun
	ready=$(property lasthop ActiveEnterTimestampMonotonic)
	begun=$(property nginx InactiveExitTimestampMonotonic)
	[ "$ready" -le "$begun" ] || fail "NGINX started before lasthop was ready"
	now test "$(property lasthop NRestarts)" = 0
}

plan_is_installed() {
	soon leaves 1
	soon leaves 3 # by its name
	now leaves 0
	soon lasthop status
	now lasthop check
}

reload_of_nginx() {
	now not leaves 2
	reload 10.0.0.100:80 10.0.1.100:80 10.0.2.100:80
	soon leaves 2
}

# The new master listens where the old one did not.
upgrade_of_nginx() {
	local old
	old=$(master)
	cp /usr/sbin/nginx /usr/sbin/nginx.new
	mv /usr/sbin/nginx.new /usr/sbin/nginx
	now not leaves 4
	listens 10.0.0.100:80 10.0.1.100:80 10.0.4.100:80 >/etc/nginx/conf.d/site.conf
	now kill -USR2 "$old"
	soon leaves 4
	now kill -QUIT "$old"
	soon test ! -e "/proc/$old"
	now test "$(master)" != "$old"
	reload 10.0.0.100:80 10.0.1.100:80 10.0.2.100:80
	soon leaves 2
	soon shows "pid=$(master)" log
}

# A master as a container has it: users, files and processes of its own.
nginx_in_a_container() {
	now not leaves 5
	copy /srv/nginx 10.0.5.100:8080
	sed -i 's/^user .*/user root; daemon off;/' /srv/nginx/nginx.conf
	cat >/srv/nginx/start <<-END
		mount --bind /srv/nginx /etc/nginx
		mount -t tmpfs tmpfs /var/lib/nginx
		mount -t tmpfs tmpfs /var/log/nginx
		exec nginx
	END
	now systemd-run -q --unit=container unshare --user --map-root-user --mount --pid --fork \
		sh /srv/nginx/start
	soon shows "nginx: worker" systemctl status container
	now systemctl reload lasthop # which looks for masters
	soon leaves 5
	listens 10.0.5.100:8080 10.0.4.100:8080 >/srv/nginx/conf.d/site.conf
	now kill -HUP "$(pgrep -P "$(property container MainPID)")"
	soon leaves 4
	now systemctl stop container
	soon lasthop status
}

# The files of a master in /tmp, which the unit does not have.
nginx_in_tmp() {
	now not leaves 6
	copy /tmp/nginx 10.0.6.100:8080
	sed -i 's|/etc/nginx|/tmp/nginx|' /tmp/nginx/nginx.conf
	now nginx -c /tmp/nginx/nginx.conf
	now systemctl reload lasthop
	soon leaves 6
	listens 10.0.7.100:8080 >/tmp/nginx/conf.d/site.conf
	now nginx -c /tmp/nginx/nginx.conf -s reload
	soon leaves 7
	now nginx -c /tmp/nginx/nginx.conf -s quit
}

deleted_rule() {
	now ip rule del from 10.0.1.0/24 pref 5199
	soon shows "^5199:.*from 10.0.1.0/24" ip rule
	now leaves 1
}

status_as_root() {
	soon lasthop status
	now lasthop status -o json
}

status_as_nobody() {
	now nobody lasthop status
	now shows "200 OK" nobody socat - UNIX:"$(echo /run/lasthop/netns-*.sock)" <<<$'GET /healthz HTTP/1.0\r\n\r'
}

# What the unit's umask must not take from the users of this host.
files_for_nobody() {
	now nobody grep -q lasthop-eth1 /etc/iproute2/rt_tables.d/lasthop.conf
	now nobody test -r "$(echo /run/lasthop/netns-*.groups)"
	now nobody lasthop explain 10.0.1.100
}

metrics() {
	soon shows '^lasthop_in_sync 1' ask TCP:127.0.0.1:9176 /metrics
	now shows '200 OK' ask TCP:127.0.0.1:9176 /healthz
}

# The service asks an API by TCP and by a unix socket: the finding is gone once it answers.
plus_api() {
	local at listen server
	trap 'kill $server; settings >/etc/lasthop/lasthop.yaml; systemctl reload lasthop' EXIT
	for at in 127.0.0.1:8080 unix:/run/api.sock:; do
		case $at in
		unix:*) listen=UNIX-LISTEN:/run/api.sock,fork,mode=666 ;;
		*) listen=TCP-LISTEN:8080,bind=127.0.0.1,fork,reuseaddr ;;
		esac
		settings "plus_api: http://$at/api" >/etc/lasthop/lasthop.yaml
		now systemctl reload lasthop
		soon shows "plus-api" lasthop status
		socat "$listen" EXEC:"/unit.sh api" &
		server=$!
		seconds=20 soon not shows "plus-api" lasthop status
		kill $server
	done
}

# api answers a request as the API of NGINX Plus does.
api() {
	local path body="{\"generation\":1,\"pid\":1,\"ppid\":$(master)}"
	read -r _ path _
	[ "$path" != /api/ ] || body="[1,9]"
	printf 'HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s' ${#body} "$body"
}

# errors OURS SYSTEMD: since mark, lasthop.service has logged one error of lasthop, and systemd its own.
errors() {
	soon shows "$2" since -u lasthop -p err
	now shows "$1" since -u lasthop -p err
	[ "$(since -u lasthop -p err | wc -l)" = 2 ] || fail "errors: $(since -u lasthop -p err)"
	[ "$(since _SYSTEMD_UNIT=lasthop.service -p err | wc -l)" = 1 ] || fail "not one of lasthop"
}

reload_of_settings() {
	settings "direct: [198.51.100.0/24]" >/etc/lasthop/lasthop.yaml
	now lasthop test
	now systemctl reload lasthop
	now shows "to 198.51.100.0/24" ip rule
	echo "no such setting" >>/etc/lasthop/lasthop.yaml
	mark
	now not systemctl reload lasthop
	now shows "error: the settings stay as they were: /etc/lasthop/lasthop.yaml:[0-9]+: " log
	errors "^the settings stay as they were: /etc/lasthop/lasthop.yaml:[0-9]+: " "^Reload failed for "
	now shows "to 198.51.100.0/24" ip rule
	now not lasthop test
	now kill -HUP "$(property lasthop MainPID)"
	soon not lasthop status
	now shows "to 198.51.100.0/24" ip rule
	settings >/etc/lasthop/lasthop.yaml
	now nobody sh -c '! lasthop reload'
	now shows "to 198.51.100.0/24" ip rule
	now systemctl reload lasthop
	now not shows "to 198.51.100.0/24" ip rule
	now lasthop status
}

# A start with settings that lasthop refuses ends, once.
start_with_a_typo() {
	echo "no such setting" >>/etc/lasthop/lasthop.yaml
	mark
	now not systemctl restart lasthop
	sleep 3 # longer than RestartSec=
	now test "$(property lasthop ActiveState) $(property lasthop ExecMainStatus)" = "failed 78"
	now test "$(property lasthop NRestarts)" = 0
	errors "^lasthop: error: /etc/lasthop/lasthop.yaml:[0-9]+: " "^Failed to start "
	now leaves 1
	settings >/etc/lasthop/lasthop.yaml
	now systemctl start lasthop
	soon lasthop status
}

apply_beside_it() {
	now lasthop apply
	now not lasthop clear
	now leaves 1
}

# keeps COMMAND: the daemon is another one afterwards, and no program deleted
# anything.
keeps() {
	local before
	before=$(property lasthop MainPID)
	ip -ts monitor route rule >/tmp/monitor 2>&1 &
	trap "kill $!" EXIT
	now "$@"
	soon another "$before"
	soon lasthop status
	! grep Deleted /tmp/monitor || fail "that is gone"
	now leaves 1
}
another() { ! grep -qx "0\|$1" <<<"$(property lasthop MainPID)"; } # another PID

restart_keeps_routes() { keeps systemctl restart lasthop; }
kill_keeps_routes() { keeps kill -9 "$(property lasthop MainPID)"; now test "$(property lasthop NRestarts)" = 1; }

# In the network namespace of another NGINX, by a drop-in.
other_namespace() {
	local unit=/etc/systemd/system/lasthop-blue.service
	now ip netns add blue
	now ip netns exec blue /unit.sh links
	copy /srv/blue 10.0.1.100:80
	sed -i 's|/etc/nginx|/srv/blue|' /srv/blue/nginx.conf
	now ip netns exec blue nginx -c /srv/blue/nginx.conf
	settings | grep -v metrics >/etc/lasthop/blue.yaml
	cp /lib/systemd/system/lasthop.service $unit
	mkdir $unit.d
	printf '[Service]\n%s\n' NetworkNamespacePath=/run/netns/blue ExecStart= \
		"ExecStart=/usr/sbin/lasthop run --config /etc/lasthop/blue.yaml" >$unit.d/blue.conf
	now systemctl daemon-reload
	now systemctl start lasthop-blue
	soon shows "via 10.0.1.1 dev eth1" ip -n blue route get 203.0.113.9 from 10.0.1.100
	soon lasthop --netns blue status
	now systemctl reload lasthop-blue
	now systemctl stop lasthop-blue
}

stop_and_clear() {
	local names=/etc/iproute2/rt_tables.d/lasthop.conf
	now systemctl stop lasthop
	now leaves 1
	now lasthop clear
	now not leaves 1
	now not shows "proto 76" ip -N route show table all
	now systemctl start lasthop
	soon leaves 1
	soon shows lasthop-eth1 cat "$names" # clear has removed it
	now systemctl stop lasthop
	now lasthop clear
	now lasthop apply
	now systemctl start lasthop
	now shows '^lasthop ' stat -c '%U %n' "$names" # apply has made it root's
	soon lasthop status
}

# A reload of NGINX without the daemon: routes follow, and NGINX's journal has a line if they change.
nginx_drop_in() {
	local drop_in=/etc/systemd/system/nginx.service.d/lasthop.conf
	now systemctl stop lasthop
	now install -D -m 644 /usr/share/doc/lasthop/nginx.service.d/lasthop.conf $drop_in
	now systemctl daemon-reload
	now not leaves 4
	mark
	reload 10.0.0.100:80 10.0.1.100:80 10.0.2.100:80 10.0.4.100:80
	now leaves 4
	now shows "^lasthop apply: [0-9]+ changes; to take this back: " since -u nginx
	mark
	now systemctl reload nginx
	now not shows lasthop since _SYSTEMD_UNIT=nginx.service
	now rm $drop_in
	now systemctl daemon-reload
	reload 10.0.0.100:80 10.0.1.100:80 10.0.2.100:80
	now systemctl start lasthop
	soon not leaves 4
	soon lasthop status
}

# The sandbox does not let it load programs.
last_hop_falls_back() {
	RETURN=last-hop settings >/etc/lasthop/lasthop.yaml
	now systemctl reload lasthop
	soon shows no-bpf lasthop status
	now shows CAP_BPF lasthop status
	now leaves 1
	now not shows encap ip route show table all
}

learns() { tc filter show dev eth1 ingress | grep -o 'lasthop/[^ ]*.* id [0-9]*'; }
answers() { ip route show table all | grep -c 'encap bpf xmit lasthop/'; }

# With its drop-in. Attached programs and their maps outlive the daemon.
last_hop() {
	local drop_in=/etc/systemd/system/lasthop.service.d/last-hop.conf before
	mountpoint -q /sys/fs/bpf || now mount -t bpf bpf /sys/fs/bpf
	now install -D -m 644 /usr/share/doc/lasthop/lasthop.service.d/last-hop.conf $drop_in
	now systemctl daemon-reload
	now systemctl restart lasthop
	soon learns
	soon answers
	now leaves 1
	soon lasthop status
	now lasthop check
	before=$(learns)
	now systemctl restart lasthop
	soon lasthop status
	[ "$(learns)" = "$before" ] || fail "restarted: $(learns), and not $before"
	now tc filter del dev eth1 ingress
	soon learns
	settings >/etc/lasthop/lasthop.yaml
	now systemctl reload lasthop
	soon not learns
	now not answers
	now leaves 1
	now rm $drop_in
	now systemctl daemon-reload
	now systemctl restart lasthop
	soon lasthop status
}

# Nothing that the sandbox refused.
log_is_clean() {
	now not shows '[pP]ermi|denied|not allowed|not implemented|read-only' log
	now shows '^changed op="ip rule add' log
}

# Each line once, with its fields; only what is wrong is a warning.
journal() {
	local pid changed=MESSAGE_ID=0211598e3e7745e1a26c7cc3d76e771f
	pid=$(property lasthop MainPID)
	mark
	now ip rule del from 10.0.1.0/24 pref 5199
	soon shows 'deleted by another program, restored op="ip rule add pref 5199 ' since -u lasthop -p warning
	[ "$(since _PID="$pid" -p warning | wc -l)" = 1 ] || fail "$(since _PID="$pid" -p warning)"
	settings "direct: [198.51.100.0/24]" >/etc/lasthop/lasthop.yaml
	mark
	now systemctl reload lasthop
	soon shows "to 198.51.100.0/24" since -u lasthop $changed
	[ "$(since | grep -c 'ip rule add pref 51.. from 10.0.1.0/24 to 198.51.100.0/24')" = 1 ] || fail "not once: $(since)"
	for field in "OP=ip rule add" "CAUSE=settings read again for lasthop" DIGEST=sha256:; do
		now shows "LASTHOP_$field" since -u lasthop $changed -o verbose
	done
	now shows "^-- Subject: lasthop has changed the routing of this host" since -u lasthop $changed -x -o short
	for field in stdout syslog; do
		now not shows . journalctl -q -o cat _PID="$pid" _TRANSPORT=$field
	done
	settings "addresses: {192.0.2.9: {interface: eth99}}" >/etc/lasthop/lasthop.yaml
	mark
	now systemctl reload lasthop
	sleep 10 # a finding stays so long before it is told
	soon shows "^address 192.0.2.9 names the interface eth99, which does not exist here" since -u lasthop -p warning
	soon shows "^address 192.0.2.9=eth99 is for 192.0.2.9, which no listener names" since -u lasthop -p warning
	mark
	settings >/etc/lasthop/lasthop.yaml
	now systemctl reload lasthop
	soon shows "^good again code=unknown-link subject=eth99" since -u lasthop
}

# A journald that does not read stops nothing.
stuck_journal() {
	local _ pid
	pid=$(property systemd-journald MainPID)
	now kill -STOP "$pid"
	trap "kill -CONT $pid" EXIT
	for _ in $(seq 10); do
		settings "direct: [198.51.100.0/24]" >/etc/lasthop/lasthop.yaml
		now timeout 10 lasthop reload
		settings >/etc/lasthop/lasthop.yaml
		now timeout 10 lasthop reload
	done
	now ip rule del from 10.0.1.0/24 pref 5199
	soon shows "^5199:.*from 10.0.1.0/24" ip rule
	now kill -CONT "$pid"
	soon lasthop status
}

sandbox() {
	local pid
	pid=$(property lasthop MainPID)
	now shows "hidepid=invisible" cat "/proc/$pid/mountinfo"
	now shows "^Umask:.0077" cat "/proc/$pid/status"
	now shows "^Seccomp:.2" cat "/proc/$pid/status"
	now shows "^NoNewPrivs:.1" cat "/proc/$pid/status"
	for set in CapBnd CapEff; do # DAC_READ_SEARCH, NET_ADMIN, SYS_PTRACE
		now shows "^$set:.0000000000081004" cat "/proc/$pid/status"
	done
	now shows "^Uid:.$(id -u lasthop)" cat "/proc/$pid/status"
	now shows " / / ro," cat "/proc/$pid/mountinfo"
	now shows " /proc/sys ro," cat "/proc/$pid/mountinfo"
	now shows " /sys/fs/cgroup ro," cat "/proc/$pid/mountinfo"
	[ "$(stat -Lc %i "/proc/$pid/root/tmp")" != "$(stat -c %i /tmp)" ] || fail "it has our /tmp"
	now not test -e "/proc/$pid/root/dev/kmsg"
}

inside() {
	local name
	for name in starts_at_boot plan_is_installed reload_of_nginx upgrade_of_nginx deleted_rule \
		status_as_root status_as_nobody files_for_nobody metrics plus_api reload_of_settings start_with_a_typo \
		apply_beside_it restart_keeps_routes kill_keeps_routes journal stuck_journal nginx_in_a_container nginx_in_tmp other_namespace \
		stop_and_clear nginx_drop_in sandbox log_is_clean last_hop_falls_back last_hop; do
		alone $name $name
	done
	[ ! -w /mnt/job ] || journalctl -b --no-pager >/mnt/job/journal
	echo end
}

case ${1:-}:${2:-} in
links:*) uplinks 0 1 2 3 4 5 6 7 ;;
here:* | inside:* | api:*) "$@" ;;
*:prepare) prepare "$3" "$1" ;;
*) outside "$@" ;;
esac
