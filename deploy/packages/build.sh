#!/bin/sh
# `make packages`: deb, rpm and apk for amd64 and arm64 with the version VERSION, in dist/, with an SBOM (CycloneDX) of each program:
#
#   lasthop_1.0.0_amd64.deb  lasthop-1.0.0-1.x86_64.rpm   lasthop_1.0.0_x86_64.apk   lasthop_1.0.0_amd64.cdx.json
#   lasthop_1.0.0_arm64.deb  lasthop-1.0.0-1.aarch64.rpm  lasthop_1.0.0_aarch64.apk  lasthop_1.0.0_arm64.cdx.json  SHA256SUMS
#
# The same commit, Go and settings below give the same bytes. It packs only what
# is committed. It deletes packages that are there first.
#
# VERSION            1.0.0, or 1.1.0-rc1
# MAINTAINER         "NAME <ADDRESS>", in the packages
# DIST               where to (dist)
# FORMATS, ARCHS     fewer of them ("deb rpm apk", "amd64 arm64")
# SOURCE_DATE_EPOCH  the time of all files (that of the last commit)
set -eu
cd "$(dirname "$0")/../.."
: "${VERSION:?say which: make packages VERSION=1.0.0}"
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
sbom=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

export VERSION CGO_ENABLED=0 GOFLAGS=-trimpath GOTOOLCHAIN=local TZ=UTC LC_ALL=C
export MAINTAINER="${MAINTAINER:-lasthop maintainers <maintainers@lasthop.invalid>}"
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
umask 022
mkdir -p "${DIST:=dist}"
dist=$(realpath "$DIST")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# program GOARCH: goes to $work/lasthop-GOARCH. Without tags, so that existing
# ones do not matter.
program() {
	(cd "$work/src" && GOARCH=$1 go build -ldflags "-s -w -X lasthop/report.version=v$VERSION" -o "$work/lasthop-$1" ./cmd/lasthop)
}

# stage FORMAT GOARCH: the files of a package in tree/ except for those to read,
# which are in doc/.
stage() {
	rm -rf "$work/tree" "$work/doc"
	case $1 in
	deb) zsh=/usr/share/zsh/vendor-completions ;;
	*) zsh=/usr/share/zsh/site-functions ;;
	esac
	QUIET=1 DESTDIR=$work/tree ZSHDIR=$zsh LASTHOP=$work/lasthop-$2 NATIVE=$work/lasthop-$host "$work/src/deploy/install.sh"
	case $1 in
	deb) rm "$work/tree/usr/share/doc/lasthop/LICENSE" ;; # Debian has the text; copyright names it
	apk) rm -r "$work/tree/usr/lib" ;;                    # Alpine has no systemd
	esac
	mkdir "$work/doc"
	mv "$work/tree/usr/share/doc" "$work/tree/usr/share/man" "$work/doc/"
	find "$work/tree" "$work/doc" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	(cd "$work/doc" && find . -type f | sort) |
		sed 's|^\./\(.*\)|  - {src: doc/\1, dst: /usr/share/\1, type: doc, packager: rpm}|' |
		cat "$work/src/deploy/packages/nfpm.yaml" - >"$work/nfpm.yaml"
}

# name FORMAT GOARCH: how the distributions call the file.
name() {
	machine=$(echo "$2" | sed 's/amd64/x86_64/; s/arm64/aarch64/')
	case $1 in
	rpm) echo "lasthop-$VERSION-1.$machine.rpm" ;;
	apk) echo "lasthop_${VERSION}_$machine.apk" ;;
	*) echo "lasthop_${VERSION}_$2.$1" ;;
	esac
}

# changelog: what a distribution needs to know of each version of a package.
changelog() {
	cat <<-END
		- semver: $VERSION-1
		  date: $(date -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
		  packager: $MAINTAINER
		  deb: {urgency: medium, distributions: [stable]}
		  changes: [{note: "Version $VERSION. The changes are in /usr/share/doc/lasthop/changelog.gz."}]
	END
}

[ -z "$(git status --porcelain)" ] || echo "packages: warning: what is not committed is not packed" >&2
git clone -q --shared --no-tags -c advice.detachedHead=false . "$work/src"
host=$(go env GOHOSTARCH)
program "$host"
cp "$work"/src/deploy/packages/* "$work/"
changelog >"$work/changelog.yaml"
rm -f "$dist"/lasthop[-_]* "$dist/SHA256SUMS"
for arch in ${ARCHS:-amd64 arm64}; do
	program "$arch"
	for format in ${FORMATS:-deb rpm apk}; do
		stage "$format" "$arch"
		(cd "$work" && ARCH=$arch go run "$nfpm" package -p "$format" -t "$dist/$(name "$format" "$arch")")
	done
	go run "$sbom" bin -json -noserial -notimestamp -std -version "v$VERSION" -output "$dist/$(name cdx.json "$arch")" \
		"$work/lasthop-$arch"
done
(cd "$dist" && sha256sum lasthop[-_]* >SHA256SUMS)
