package main_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The arrows of the design point one way. Each package may import what is
// listed, the standard library, and nothing else of ours or of others.
var mayImport = map[string][]string{
	"lasthop/internal/procfs": {"golang.org/x/sys/unix"},
	"lasthop/nginxconf":       {"lasthop/internal/procfs", "github.com/nginxinc/nginx-go-crossplane", "golang.org/x/sys/unix"},
	"lasthop/routing":         {"go4.org/netipx"},
	"lasthop/routing/host":    {"lasthop/routing", "github.com/vishvananda/netlink", "github.com/vishvananda/netlink/nl", "github.com/vishvananda/netns", "golang.org/x/sys/unix"},
	"lasthop/bigip":           {"lasthop/routing", "go4.org/netipx"},
	"lasthop/report":          {"lasthop/routing"},
	"lasthop/routing/sim":     {"lasthop/routing"}, // tests
	"lasthop/deploy":          {},                  // tests
	"lasthop/internal/nstest": {"github.com/vishvananda/netns", "golang.org/x/sys/unix"},
	"lasthop/watcher":         {"lasthop/nginxconf", "lasthop/internal/hint", "lasthop/internal/procfs", "github.com/fsnotify/fsnotify", "golang.org/x/sys/unix"},
	"lasthop/internal/hint":   {},
	"lasthop/internal/writer": {"lasthop/internal/hint", "lasthop/report", "lasthop/routing", "golang.org/x/sys/unix"},
	"lasthop/cmd/lasthop": {"lasthop/internal/writer", "lasthop/bigip", "lasthop/nginxconf", "lasthop/report", "lasthop/routing", "lasthop/routing/host", "lasthop/watcher",
		"github.com/coreos/go-systemd/v22/daemon", "github.com/goccy/go-yaml", "github.com/goccy/go-yaml/ast", "github.com/goccy/go-yaml/parser",
		"github.com/prometheus/client_golang/prometheus", "github.com/prometheus/client_golang/prometheus/collectors",
		"github.com/prometheus/client_golang/prometheus/promhttp", "github.com/spf13/cobra", "golang.org/x/sync/errgroup", "golang.org/x/sys/unix"},
}

// impure are packages of the standard library that routing decides without.
var impure = []string{"os", "net", "time", "log", "log/slog", "context", "sync", "io", "bufio",
	"os/exec", "syscall"}

func TestImports(t *testing.T) {
	// By directory: a pattern of module paths would want the whole module
	// graph, and these tests may have no network.
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`,
		"../../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		allowed, ok := mayImport[words[0]]
		if !ok {
			t.Errorf("%s is not in the list of packages: say what it may import",
				words[0])
			continue
		}
		seen++
		for _, imported := range words[1:] {
			standard := !strings.Contains(strings.Split(imported, "/")[0], ".") &&
				!strings.HasPrefix(imported, "lasthop")
			if standard && words[0] == "lasthop/routing" &&
				slices.Contains(impure, imported) {
				t.Errorf("routing imports %s: it takes values and gives values",
					imported)
			}
			if !standard && !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s, against the design", words[0], imported)
			}
		}
	}
	if seen != len(mayImport) {
		t.Errorf("%d packages seen, %d in the list", seen, len(mayImport))
	}
}
