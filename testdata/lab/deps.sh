#!/bin/sh
# Installs with apt what the lab and the tests call, and only what is missing.
# Asks for sudo only then. `deps.sh browser` also installs what reads the HTML
# report and the alert rules (axe-core from npm); `deps.sh systems` installs only
# what boots other systems, `deps.sh image` what builds and runs images,
# `deps.sh ansible` what reads a role.
#
# Installing nginx would start it on port 80 and at each boot, and keepalived
# too. An administrator of Debian forbids the start with policy-rc.d, with and
# without systemd; this script writes that file for the installation alone, and
# never over an existing one. `systemctl disable` forbids the start at boot. The
# script leaves services that are there already as they are.
set -eu
PATH=$PATH:/usr/sbin:/sbin

# has_module NAME: built in (nginx.org's packages) or as a file (Debian's and Ubuntu's).
has_module() {
	options=$(nginx -V 2>&1 | tr ' ' '\n')
	echo "$options" | grep -qx -- "--with-$1" ||
		[ -e "$(echo "$options" | sed -n 's/^--modules-path=//p')/ngx_$1_module.so" ]
}

missing() {
	if [ "${1:-}" = systems ]; then
		command -v debootstrap >/dev/null || echo debootstrap
		command -v systemd-nspawn >/dev/null || echo systemd-container
		command -v qemu-system-x86_64 >/dev/null || echo qemu-system-x86
		command -v mke2fs >/dev/null || echo e2fsprogs
		return
	fi
	if [ "${1:-}" = image ]; then
		for command in buildah podman crun; do command -v $command >/dev/null || echo $command; done
		return
	fi
	if [ "${1:-}" = ansible ]; then
		command -v ansible-lint >/dev/null || echo ansible-lint
		command -v ansible-playbook >/dev/null || echo ansible-core
		return
	fi
	while read -r command package; do
		command -v "$command" >/dev/null || echo "$package"
	done <<-END
		ip iproute2
		nft nftables
		iptables-nft iptables
		nsenter util-linux
		ping iputils-ping
		arping iputils-arping
		tcpdump tcpdump
		socat socat
		curl curl
		nginx nginx
		keepalived keepalived
		systemd-analyze systemd
		dbus-daemon dbus
	END
	if [ "${1:-}" = browser ]; then
		command -v promtool >/dev/null || echo prometheus
	fi
	if [ "${1:-}" = browser ] && grep -qsx ID=debian /etc/os-release; then # Ubuntu's is a snap, which may not read files of a test
		command -v chromium >/dev/null || echo chromium
		command -v pdftotext >/dev/null || echo poppler-utils
	fi
	[ -x /bin/kill ] || echo procps # the unit's reload
	[ -x /lib/systemd/systemd-networkd ] || echo systemd
	[ -e /etc/protocols ] || echo netbase
	for module in stream mail; do
		command -v nginx >/dev/null && has_module $module || echo libnginx-mod-$module
	done
}

install() {
	policy=/usr/sbin/policy-rc.d
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	if [ ! -e $policy ]; then
		trap 'rm -f "$log" $policy' EXIT
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod 755 $policy
	fi
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update && apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null || {
		cat "$log" >&2
		echo "lab: error: apt cannot install: $*" >&2
		exit 1
	}
	for service in nginx keepalived prometheus; do
		case " $* " in
		*" $service "*) ! command -v systemctl >/dev/null || systemctl --quiet disable $service.service 2>/dev/null || : ;;
		esac
	done
}

if [ "${1:-}" = install ]; then
	shift
	install "$@"
	exit
fi

# axe keeps the checks of axe-core, which the tests of the HTML reports run in a page. Without npm or a network they are skipped.
axe() {
	version=4.14.1 sum=e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
	file=${XDG_CACHE_HOME:-$HOME/.cache}/lasthop/axe-core-$version.js
	[ ! -e "$file" ] && command -v npm >/dev/null || return 0
	echo "lab: fetching axe-core $version (with npm)" >&2
	(
		dir=$(mktemp -d)
		trap 'rm -rf "$dir"' EXIT
		cd "$dir"
		timeout 120 npm pack --silent "axe-core@$version" >/dev/null
		echo "$sum  axe-core-$version.tgz" | sha256sum --quiet -c
		tar -xzf "axe-core-$version.tgz" package/axe.min.js
		mkdir -p "${file%/*}"
		mv package/axe.min.js "$file"
	) || echo "lab: warning: no axe-core: the reports are not checked with it" >&2
}

[ "${1:-}" != browser ] || axe
packages=$(missing "${1:-}" | tr '\n' ' ')
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null; then
	echo "lab: error: please install what Debian calls: $packages" >&2
	exit 1
fi
echo "lab: installing $packages(with apt; no service is started)" >&2
if [ "$(id -u)" = 0 ]; then
	install $packages
else
	sudo "$0" install $packages
fi
