#!/bin/bash
# `make packages-check`: builds the packages of VERSION twice and checks what
# they promise. Prints "ok CHECK" or what is wrong. Needs lintian, rpmlint, rpm
# and mandoc of Debian. `make systems` installs, upgrades and removes the deb.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
: "${VERSION:?say which: make packages-check VERSION=1.0.0}"
export LC_ALL=C
packages=deploy/packages dist=dist deb=dist/lasthop_${VERSION}_amd64.deb
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

try() {
	local out
	if out=$( (set -e; "$1") 2>&1); then echo "ok $1"; else printf 'FAIL %s:\n%s\n' "$1" "$out"; failed=1; fi
}

# same_bytes: another build of the commit, in another directory, at another time.
same_bytes() {
	DIST=$work/again $packages/build.sh
	diff "$dist/SHA256SUMS" "$work/again/SHA256SUMS"
	(cd "$dist" && sha256sum -c --quiet SHA256SUMS)
}

# versions: package, program and SBOM name the same version.
versions() {
	local program=$work/deb/usr/sbin/lasthop said sbom=$dist/lasthop_${VERSION}_amd64.cdx.json
	dpkg-deb -x "$deb" "$work/deb"
	said=$("$program" version -o json)
	grep -F "\"lasthop\": \"v$VERSION\"" <<<"$said"
	grep -F "\"revision\": \"$(git rev-parse HEAD)\"" <<<"$said"
	! grep -F '"modified"' <<<"$said"
	[ "$(dpkg-deb -f "$deb" Version | tr '~' -)" = "$VERSION-1" ]
	[ "$(rpm -qp --qf '%{VERSION}-%{RELEASE}' "$dist"/*.x86_64.rpm | tr '~' -)" = "$VERSION-1" ]
	grep -F "\"bom-ref\": \"pkg:golang/lasthop@v$VERSION?type=module#cmd/lasthop\"" "$sbom"
	grep -F "\"$(sha256sum <"$program" | cut -d' ' -f1)\"" "$sbom"
	diff <(go version -m "$program" | awk '$1 == "dep" { print $2 "@" $3 }' | sort) \
		<(sed -n 's|^ *"bom-ref": "pkg:golang/\([^?]*\)?type=module",$|\1|p' "$sbom" | grep -v '^std@' | sort)
}

linted_deb() { lintian --allow-root -I --fail-on error,warning,info "$dist"/*.deb; }

# linted_rpm: rpmlint unpacks with cpio, and nfpm's names are absolute: without
# the option, files would land in this system. For the same reason it does not
# run as root.
linted_rpm() {
	mkdir -m 755 "$work/bin" "$work/rpms"
	printf '#!/bin/sh\nexec %s --no-absolute-filenames "$@"\n' "$(command -v cpio)" >"$work/bin/cpio"
	chmod 755 "$work" "$work/bin/cpio"
	cp "$dist"/*.rpm $packages/rpmlint.toml "$work/rpms/"
	local as=
	[ "$(id -u)" != 0 ] || as="setpriv --reuid 65534 --regid 65534 --clear-groups"
	(cd "$work/rpms" && HOME=$work/rpms PATH=$work/bin:$PATH $as rpmlint -c rpmlint.toml ./*.rpm) >"$work/rpmlint" 2>&1 || :
	grep -q ' 0 errors, 0 warnings' "$work/rpmlint" || { cat "$work/rpmlint"; return 1; }
}

# linted_man: other pages need not be installed here.
linted_man() { ! mandoc -T lint -W style deploy/man/*.[58] | grep -v 'referenced manual not found'; }

# same_files: except for what only one of them has.
same_files() {
	diff <(dpkg-deb -c "$deb" | awk '!/^d/ { print substr($6, 2) }' | grep -vE 'Debian|/copyright$|lintian' | sort) \
		<(rpm -qp --qf '[%{FILEMODES:perms} %{FILENAMES}\n]' "$dist"/*.x86_64.rpm | awk '!/^d/ && !/LICENSE$/ { print $2 }' |
			sed 's|zsh/site-functions|zsh/vendor-completions|' | sort)
}

# rpm_installs: into a root of its own, and finds there what it has installed.
rpm_installs() {
	mkdir "$work/rpm"
	rpm --root "$work/rpm" --initdb
	rpm --root "$work/rpm" -i --nodeps --noscripts "$dist"/*.x86_64.rpm
	rpm --root "$work/rpm" -V --nodeps lasthop
	rpm --root "$work/rpm" -qc lasthop | grep -x /etc/lasthop/lasthop.yaml
}

failed=0
$packages/build.sh
for check in same_bytes versions linted_deb linted_rpm linted_man same_files rpm_installs; do try $check; done
exit $failed
