# make demo       show it in a lab of network namespaces       make test    all checks, under ten minutes
# make build      ./lasthop                                    make bench   benchmarks
# make fuzz       each fuzz target for FUZZTIME                make prove   HOSTS random hosts; the configurations below CORPUS
GO          := go
HOSTS       := 2000
CORPUS      := testdata/nginx
FUZZTIME    := 30s
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

export GOTOOLCHAIN := local
export PATH := $(PATH):/usr/sbin:/sbin

need := $(shell sed -n 's/^go //p' go.mod)
have := $(or $(shell $(GO) version 2>/dev/null | sed 's/.*go\([0-9][0-9.]*\).*/\1/'),0)
ifneq ($(need),$(shell printf '%s\n' $(need) $(have) | sort -V | head -n 1))
$(error lasthop needs Go $(need) or newer, not $(have:0=none): get it from https://go.dev/dl)
endif

.PHONY: build demo test lint prove fuzz bench

build:
	$(GO) build -trimpath -o lasthop ./cmd/lasthop

demo: build
	@testdata/lab/demo.sh ./lasthop

test: lint
	testdata/lab/deps.sh
	$(GO) test $(if $(shell command -v gcc),-race) -timeout 10m ./...

lint:
	@out=$$("$$($(GO) env GOROOT)/bin/gofmt" -s -l .) && [ -z "$$out" ] || { echo "gofmt -s -w: $$out"; exit 1; }
	$(GO) vet ./...
	@$(GO) run $(STATICCHECK) -version 2>/dev/null || { echo "staticcheck skipped: cannot be downloaded"; exit 0; } && \
		$(GO) run $(STATICCHECK) ./...

prove:
	testdata/lab/deps.sh
	$(GO) test -count=1 -v -timeout 60m ./cmd/lasthop -run 'TestRandom' -hosts $(HOSTS)
	$(GO) test -count=1 -v -timeout 60m ./nginxconf -run 'TestCorpus' -corpus $(abspath $(CORPUS))

fuzz:
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
		$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...
