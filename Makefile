# make demo    see it, in a lab of network namespaces          make test    every check, under ten minutes
# make build   ./lasthop                                       make prove   HOSTS random hosts; NETWORKS; CORPUS=DIR of configurations,
#                                                                           or with nginx/ and bigip/ below it
# make bench   what it costs compared with each alternative, as tables: under three minutes on an idle machine; BENCH=full for all sizes
# make bench-go  the Go benchmarks of the packages              make fuzz    each fuzz target for FUZZTIME
# make soak    1,000 changes under load, 200 torn reloads, 200 deletions, 10,000 syncs, 200 reloads of 10,000 listeners, idle;
#              all that local users can do together, for SIEGE (20m) with each way to notice reloads; growth while everything changes for CHURN (30m);
#              random networks that the daemon guards for EVENTS (10m) while VIPs, routers, leases and rules change
# make chaos   the same for SECONDS from SEED on, while the daemon is killed, starved, has no room for its files, and users lie to it
# make install to PREFIX below DESTDIR; starts nothing; test keeps screenshots of the HTML report in LASTHOP_ARTIFACTS
# make packages VERSION=1.0.0   deb, rpm and apk for amd64 and arm64, an SBOM and SHA256SUMS in dist/; packages-check builds them
#              twice and checks them with linters and rpm
# make fresh   demo, install and test in a fresh root of SUITE: bullseye, bookworm, trixie, jammy, noble
# make systems the deb on the distributions SUITES, under their own systemd, and docs/getting-started.md from end to end; tests that need
#              links that this kernel may lack (VLAN, bond, VRF, GRE, WireGuard) under the kernels of KERNELS, in qemu; as root, without
#              KVM; the image, the Ansible role and NetworkManager; the first time it makes the roots, which it keeps in ~/.cache/lasthop.
#              All of them: docs/support.md
# make peers   the table of docs/comparison.md: the recipe, networkd, keepalived, CNI sbr and lasthop in one lab
GO          := go
HOSTS       := 10000
NETWORKS    := 1000
SUITE       := bookworm
SUITES      := bookworm
KERNELS     := bookworm
BENCH       := short
FUZZTIME    := 30s
EVENTS      := 10m
SIEGE       := 20m
CHURN       := 30m
SEED        := 1
SECONDS     := 60
PREFIX      := /usr
UNITDIR     := /usr/lib/systemd/system
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PROVE       := $(GO) test -count=1 -v -timeout 60m
SOAK        := $(GO) test -run '^$$' -timeout 90m ./internal/daemon -bench
RACY         = $(shell grep -rlE --include=*.go --exclude=*_test.go '^\s*go [a-z]|[.]Go[^,a-zA-Z]' . | \
		xargs -n1 dirname | sort -u | sed 's/^\./lasthop/')
TIMEOUT      = -timeout $$((20 * $(or $(LAB_WAIT),1)))m
QUIET       := grep -vE '^(=== | +--- PASS)'
SHELL       := /bin/bash
.SHELLFLAGS := -o pipefail -c

export GOTOOLCHAIN := local
# else each lasthop that a test runs waits a second before it ends
export GORACE := atexit_sleep_ms=0
export LASTHOP_ARTIFACTS ?= $(CURDIR)/artifacts
export PATH := $(PATH):/usr/sbin:/sbin

need := $(shell sed -n 's/^go //p' go.mod)
have := $(or $(shell $(GO) version 2>/dev/null | sed 's/.*go\([0-9][0-9.]*\).*/\1/'),0)
ifneq ($(need),$(shell printf '%s\n' $(need) $(have) | sort -V | head -n 1))
$(error lasthop needs Go $(need) or newer, not $(have:0=none): get it from https://go.dev/dl)
endif

.PHONY: build demo test test-racy test-rest lint prove fuzz bench bench-go soak chaos install packages packages-check fresh systems systems-kernels systems-machines peers clean
build: # without cgo, so that it starts with an older C library, too
	CGO_ENABLED=0 $(GO) build -trimpath -o lasthop ./cmd/lasthop
demo: build
	@testdata/lab/demo.sh ./lasthop
test: lint
	testdata/lab/deps.sh browser
	@$(MAKE) --no-print-directory -j2 test-racy test-rest
test-racy: # several times slower, so only packages that start goroutines
	$(GO) test -p 1 $(if $(shell command -v gcc),-race) $(TIMEOUT) $(RACY)
test-rest:
	$(GO) test $(TIMEOUT) $(filter-out $(RACY),$(shell $(GO) list ./...))
lint:
	@out=$$("$$($(GO) env GOROOT)/bin/gofmt" -s -l .) && [ -z "$$out" ] || { echo "gofmt -s -w: $$out"; exit 1; }
	$(GO) vet ./...
	@$(GO) run $(STATICCHECK) -version || { echo "staticcheck skipped: cannot be downloaded"; exit 0; } && \
		$(GO) run $(STATICCHECK) ./...
prove:
	testdata/lab/deps.sh
	$(PROVE) ./cmd/lasthop -run 'Test(Prove|Captured)?RandomHosts' -hosts $(HOSTS) | $(QUIET)
	$(PROVE) ./internal/netlab -run TestNetworks -networks $(NETWORKS) | $(QUIET)
	$(PROVE) ./internal/daemon -run TestNetworkdScenarios -dropins | $(QUIET)
	CORPUS=$(abspath $(CORPUS)) $(PROVE) ./nginxconf -run 'TestSockets|TestProveCorpus|TestTrees' | $(QUIET)
	CORPUS=$(abspath $(CORPUS)) $(PROVE) ./bigip -run Corpus | $(QUIET)
	CORPUS=$(abspath $(CORPUS)) $(PROVE) ./cmd/lasthop -run TestSkeletonNGINX | $(QUIET)
fuzz:
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
		$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done
bench:
	testdata/lab/deps.sh
	$(PROVE) ./internal/bench -run 'Test(Packets|Plan|Apply|Daemon)$$' -tables $(BENCH) | $(QUIET)
bench-go:
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m ./bigip/... ./nginxconf/... ./report/... ./routing/... ./watcher/...
	$(GO) test -run '^$$' -bench Prove -benchtime 20x ./internal/survey
	$(SOAK) 'Reload|Heal|Sync' -benchtime 20x
	$(GO) test -run '^$$' -bench Growth -benchtime 1x -timeout 60m ./cmd/lasthop
soak:
	testdata/lab/deps.sh
	$(PROVE) ./internal/daemon -run TestRunUnderLoad -resyncs 1000 | $(QUIET)
	$(PROVE) ./internal/daemon -run TestRunTorn -torn 200 | $(QUIET)
	$(PROVE) ./internal/daemon -run TestBesieged -siege $(SIEGE) -siege-listeners 5000 | $(QUIET)
	$(PROVE) ./internal/daemon -run TestChurn -churn $(CHURN) | $(QUIET)
	$(SOAK) 'Sync$$' -benchtime 10000x
	$(SOAK) 'Heal$$' -benchtime 200x
	$(SOAK) 'Reload' -benchtime 200x
	$(SOAK) 'Idle$$' -benchtime 1x
	$(PROVE) ./internal/netlab -run TestEvents -events-for $(EVENTS) | $(QUIET)
	$(MAKE) chaos
chaos: # built to see data races, where there is a C compiler
	testdata/lab/deps.sh
	$(PROVE) ./internal/netlab -run TestChaos -seed $(SEED) -events-for $(SECONDS)s \
		-racy=$(if $(shell command -v gcc),true,false) | $(QUIET)
install: build
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' UNITDIR='$(UNITDIR)' deploy/install.sh
packages:
	VERSION='$(VERSION)' deploy/packages/build.sh
packages-check:
	VERSION='$(VERSION)' deploy/packages/check.sh
fresh:
	testdata/lab/fresh.sh $(SUITE)
systems: # the kernels need one processor
	testdata/lab/deps.sh systems
	@$(MAKE) --no-print-directory -j2 systems-kernels systems-machines
systems-kernels:
	testdata/systems/systems.sh $(KERNELS)
systems-machines:
	testdata/systems/packages.sh $(SUITES)
	testdata/systems/journey.sh bookworm
	testdata/systems/nmcli.sh $(SUITES)
	testdata/systems/ansible.sh bookworm
	testdata/systems/image.sh
	cd testdata/kubernetes && $(GO) test -count=1 ./...
	$(GO) test -count=1 -v ./deploy -run TestUnitRuns | $(QUIET)
peers:
	testdata/systems/peers.sh
clean:
	rm -rf lasthop dist
