#!/bin/bash
# Runs the role and the playbook of deploy/ansible for real, under a systemd that
# is PID 1, next to the NGINX of a distribution; before that ansible-lint and
# --syntax-check read them.
#
# usage: ansible.sh SUITE      prints "ok STEP", or "FAIL STEP: why"; needs root
#
# Ansible manages the machine that it runs on. Its packages are in a layer over
# the root of roots.sh, and are kept next to it.
#
# LAB_WAIT     multiplies every time limit
# KEEP         a directory for what the machine logs
set -eu -o pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/clients.sh"
export LC_ALL=C.UTF-8 # Ansible needs it

outside() { # outside SUITE
	. "$here/roots.sh"
	"$here/../lab/deps.sh" systems
	"$here/../lab/deps.sh" ansible
	cd "$here/../../deploy/ansible"
	ansible-lint --offline --nocolor --profile production migrate.yml report.yml roles/lasthop >&2
	ansible-playbook --syntax-check -i nginx, migrate.yml >&2
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	prepare "$1"
	layer "$1"
	debs "$work"
	echo once >"$work/boots"
	LAB_WAIT=$((3 * wait)) "$here/machine.sh" "$cache/$1-ansible:$cache/$1/root" "$work" "$here/ansible.sh" >&2
	[ -z "${KEEP:-}" ] || cp -r "$work" "$KEEP/ansible"
	grep -E '^(ok|FAIL)' "$work/out" || :
	! grep -q ^FAIL "$work/out"
	for step in $steps; do grep -qx "ok $step" "$work/out" || die "$step was not tried"; done
}

# layer SUITE: what apt adds to the root of a suite for Ansible.
layer() {
	local dir=$cache/$1-ansible
	[ "$dir" -nt "$cache/$1/made-of" ] || {
		echo "systems: adding Ansible to the root of $1" >&2
		rm -rf --one-file-system "$dir" "$dir".*
		mkdir "$dir".{new,work,root}
		unshare --mount --propagation private "$here/ansible.sh" install "$dir" "$cache/$1/root" \
			>"$cache/$1-ansible.log" 2>&1 || { tail -n 30 "$cache/$1-ansible.log" >&2; die "cannot add Ansible"; }
		mv "$dir.new" "$dir"
		touch "$dir"
		rm -rf --one-file-system "$dir".*
	}
}

install() { # install DIRECTORY ROOT
	mount -t overlay -o "lowerdir=$2,upperdir=$1.new,workdir=$1.work" overlay "$1.root"
	cp -L /etc/resolv.conf "$1.root/etc/"
	mount -t proc proc "$1.root/proc"
	chroot "$1.root" sh -ec 'export DEBIAN_FRONTEND=noninteractive
		apt-get update
		apt-get install -y --no-install-recommends ansible-core python3-apt
		rm -rf /var/lib/apt/lists/*'
}

# files ROOT: uplinks, NGINX's configuration and the playbook.
files() {
	cp "$here"/{ansible,clients}.sh "$1/"
	cp -r "$here/../../deploy/ansible" "$1/root/ansible"
	cp -r "$here/bigip" "$1/root/bigip"
	rm -f "$1"/etc/nginx/sites-enabled/* "$1"/etc/nginx/modules-enabled/*
	echo 'server { listen 10.0.0.100:80; listen 10.0.1.100:80; }' >"$1/etc/nginx/conf.d/site.conf"
	printf '[nginx]\nlb1 ansible_connection=local ansible_become=false ansible_python_interpreter=/usr/bin/python3\n' \
		>"$1/root/hosts"
	units "$1" ansible.sh
}

# play SETTINGS ARGUMENT...: a run of the playbook. It prints what Ansible does.
play() {
	(cd /root/ansible && ANSIBLE_PIPELINING=1 ansible-playbook -i ../hosts migrate.yml \
		-e "{\"lasthop_package\": \"/mnt/job/lasthop_1.0.0_amd64.deb\", \"lasthop_settings\": $1}" "${@:2}") 2>&1
}
approved() { echo "{\"lasthop_approved\": {\"lb1\": \"$1\"}}"; }
digest() { grep -o 'digest: sha256:[0-9a-f]*' | tail -n 1 | cut -d' ' -f2; } # of what play --check prints

# untouched FILE: neither the settings, which FILE has, nor the kernel nor the service.
untouched() {
	cmp /etc/lasthop/lasthop.yaml "$1" || fail "the settings have changed"
	now not ours
	now not systemctl -q is-active lasthop
}
unresolved() { grep -q unresolved <<<"$(lasthop status 2>&1)"; }

one='{"interfaces": {"eth1": {"gateways": ["10.0.1.1"]}}}'
two='{"interfaces": {"eth1": {"gateways": ["10.0.1.1"]}, "eth2": {"gateways": ["10.0.2.1"]}}}'

do_install() {
	now play "$one" --tags install
	now lasthop version
	cp /etc/lasthop/lasthop.yaml /run/first
	untouched /run/first
}

# Check mode prints the plan and its digest, keeps captures and reports, and
# changes nothing else.
do_check_mode() {
	local said
	said=$(play "$one" --check -e lasthop_bigip=/root/bigip/bigip.conf) || fail "$said"
	grep -q "lb1 .* changed=[1-9]" <<<"$said" || fail "nothing to do: $said"
	grep -q "eth0 via 10.0.0.1 -> eth1 via 10.0.1.1" <<<"$said" || fail "$said"
	digest <<<"$said" >/run/digest
	now grep -q '^sha256:' /run/digest
	untouched /run/first
	now grep -q '"ifname": "eth1"' /root/ansible/reports/lb1.json
	now grep -q "<html" /root/ansible/reports/lb1.html
	now not grep -q . <(find /tmp /run -maxdepth 1 -name 'lasthop[.-]*')
}

do_not_approved() {
	local said
	said=$(play "$one") && fail "$said"
	grep -q "no digest in lasthop_approved" <<<"$said" || fail "$said"
	said=$(play "$one" -e "$(approved sha256:0)") && fail "$said"
	grep -q "and not sha256:0 as approved" <<<"$said" || fail "$said"
	untouched /run/first
}

# `lasthop test` refuses the file before it is in place.
do_typo() {
	local said
	said=$(play '{"interfaces": {"eth1": {"gateway": "10.0.1.1"}}}' -e "$(approved "$(cat /run/digest)")") && fail "$said"
	grep -q 'unknown key' <<<"$said" || fail "$said"
	untouched /run/first
}

do_approved() {
	local said
	said=$(play "$one" -e "$(approved "$(cat /run/digest)")") || fail "$said"
	now leaves 1 1
	now systemctl -q is-active lasthop
	now systemctl -q is-enabled lasthop
	now lasthop check
}

do_again() {
	local said
	said=$(play "$one" -e "$(approved "$(cat /run/digest)")") || fail "$said"
	grep -q "lb1 .* changed=0 " <<<"$said" || fail "$said"
}

# A reload loads other settings; a plan that was not approved changes nothing.
do_reload() {
	local said pid
	pid=$(property lasthop MainPID)
	echo 'server { listen 10.0.0.100:80; listen 10.0.1.100:80; listen 10.0.2.100:80; }' >/etc/nginx/conf.d/site.conf
	now systemctl reload nginx
	soon unresolved
	said=$(play "$two" -e "$(approved "$(cat /run/digest)")") && fail "$said"
	now leaves 2 0
	said=$(play "$two" --check) || fail "$said"
	now leaves 2 0
	said=$(play "$two" -e "$(approved "$(digest <<<"$said")")") || fail "$said"
	now leaves 2 2
	now test "$(property lasthop MainPID)" = "$pid"
}

# If a listener does not reply the way it is reached, the host has afterwards what
# it had before.
do_goes_back() {
	local said
	now systemctl disable --now lasthop
	now lasthop clear
	echo 'server { listen 10.0.1.100:80; listen 10.0.3.100:80; }' >/etc/nginx/conf.d/site.conf
	now systemctl reload nginx
	said=$(play "$one" --check) || fail "$said"
	said=$(play "$one" -e "$(approved "$(digest <<<"$said")")") && fail "$said"
	grep -q "Ask the kernel" <<<"$said" || fail "$said"
	now not ours
	now not systemctl -q is-active lasthop
	now not systemctl -q is-enabled lasthop
}

steps="install check_mode not_approved typo approved again reload goes_back"

inside() {
	local step
	soon systemctl -q is-active links
	now systemctl start nginx
	for step in $steps; do alone $step; done
	journalctl -b --no-pager >/mnt/job/journal
	echo end
}

case ${1:-} in
prepare) files "$2" ;;
wire) uplinks 0 1 2 3 ;;
inside | install) "$@" ;;
*) outside "$@" ;;
esac
