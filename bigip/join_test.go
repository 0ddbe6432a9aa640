package bigip

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"lasthop/routing"
	"lasthop/routing/sim"
)

// TestJoin joins the files of each archive of testdata/migrate with its host
// and listens, under its policy, and compares the result in the words of
// dumpMigration with its last file, want.
func TestJoin(t *testing.T) {
	names, err := filepath.Glob("../testdata/migrate/*.txtar")
	if err != nil || len(names) < 10 {
		t.Fatal(len(names), "fixtures:", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"),
			func(t *testing.T) { testJoin(t, name) })
	}
}

func testJoin(t *testing.T, name string) {
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	here := Here{Policy: routing.Policy{Numbers: routing.DefaultNumbers}}
	dir := t.TempDir()
	var paths []string
	for _, f := range archive.Files[:len(archive.Files)-1] {
		switch f.Name {
		case "host":
			s, err := sim.Parse(string(f.Data))
			if err != nil {
				t.Fatal(err)
			}
			here.Host = s.Host
		case "listens":
			here.Listeners = listens(t, string(f.Data))
		case "policy":
			readPolicy(t, &here.Policy, string(f.Data))
		default:
			paths = append(paths, filepath.Join(dir, f.Name))
			if err := os.WriteFile(paths[len(paths)-1], f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	c, err := Load(paths...)
	if err != nil {
		t.Fatal(err)
	}
	here.Plan = routing.Build(here.Host, append(Wanted(c), here.Listeners...), nil, here.Policy)
	wantLast(t, name, archive, strings.ReplaceAll(dumpMigration(Join(c, here)), dir+"/", ""))
}

// listens reads lines like `10.0.1.100:443 udp` and `*:8000-8005`.
func listens(t *testing.T, text string) (out []routing.Listener) {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		l := routing.Listener{Transport: routing.TCP, Context: "http", Listen: words[0],
			Origins: []string{fmt.Sprintf("nginx.conf:%d", i+1)}}
		if len(words) > 1 {
			l.Transport = routing.Transport(words[1])
		}
		colon := strings.LastIndexByte(words[0], ':')
		host := strings.Trim(strings.Replace(words[0][:colon], "*", "0.0.0.0", 1), "[]")
		l.Addr = netip.MustParseAddr(host)
		if n, _ := fmt.Sscanf(words[0][colon+1:], "%d-%d", &l.Ports.First,
			&l.Ports.Last); n == 0 {
			t.Fatal(line)
		} else if n == 1 {
			l.Ports.Last = l.Ports.First
		}
		out = append(out, l)
	}
	return out
}

// readPolicy reads lines like `gateway eth1 10.0.1.1`, `return eth1 strict` and
// `address 10.9.9.9 eth1`.
func readPolicy(t *testing.T, p *routing.Policy, text string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) != 3:
			t.Fatal(line)
		case words[0] == "gateway" && words[2] == "none":
			p.Gateways = append(p.Gateways,
				routing.GatewayPin{Link: words[1], None: true})
		case words[0] == "gateway":
			p.Gateways = append(p.Gateways, routing.GatewayPin{Link: words[1],
				Addr: netip.MustParseAddr(words[2])})
		case words[0] == "return":
			p.Returns = append(p.Returns,
				routing.ReturnPin{Link: words[1], Mode: routing.Return(words[2])})
		case words[0] == "address":
			p.Addresses = append(p.Addresses,
				routing.AddressPin{Addr: netip.MustParseAddr(words[1]),
					Link: words[2]})
		}
	}
}

// dumpMigration prints all that a Migration says.
func dumpMigration(m Migration) string {
	var b strings.Builder
	for _, r := range m.Rows {
		fmt.Fprintf(&b, "%s [%s] %q = %s port %s %s by %q: %s %s %v\n", r.Virtual, r.Origin,
			r.Destination, r.Address, r.Port, r.Protocol, r.VLAN, r.Status,
			r.Reason, r.Also)
		fmt.Fprintf(&b, "  %s by %s %s [%s]: %s -> %s\n", r.Return, r.Level, r.Value,
			r.LevelOrigin, r.Before, r.After)
		fmt.Fprintf(&b, "  listen %s %s [%s], on %q, present %v, gateway %q %s\n", r.Match,
			r.Listen, r.ListenOrigin, r.Interface, r.Present, r.Gateway,
			r.GatewaySource)
		if r.Remedy != "" {
			fmt.Fprintf(&b, "  do %s\n", r.Remedy)
		}
	}
	for _, f := range m.Findings {
		fmt.Fprintf(&b, "%s %s: %s: %s (%s) [%s]\n", f.Severity, f.Code, f.Subject,
			f.Message, f.Hint, f.Origin)
	}
	fmt.Fprintf(&b, "flags %q\n%s", m.Flags, m.Settings)
	for _, s := range m.Steps {
		fmt.Fprintf(&b, "%s %s: %s\n", s.Phase, s.Where, s.Title)
		for _, l := range s.Lines {
			fmt.Fprintf(&b, "    %s\n", l)
		}
		for _, n := range s.Notes {
			fmt.Fprintf(&b, "  note %s\n", n)
		}
	}
	return b.String()
}
