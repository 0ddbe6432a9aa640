package bigip

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go4.org/netipx"

	"lasthop/routing"
)

var update = flag.Bool("update", false, "rewrite what the tests of testdata want")

// TestFixtures loads the files of each archive of testdata/bigip and compares
// what they say, in the words of dump, with its last file, want.
func TestFixtures(t *testing.T) {
	names, err := filepath.Glob("../testdata/bigip/*.txtar")
	if err != nil || len(names) < 30 {
		t.Fatal(len(names), "fixtures:", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"),
			func(t *testing.T) { testFixture(t, name) })
	}
}

func testFixture(t *testing.T, name string) {
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	last := len(archive.Files) - 1
	var paths []string
	for _, f := range archive.Files[:last] {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	got := ""
	c, err := Load(paths...)
	if err != nil {
		got = "error: " + err.Error() + "\n"
	} else {
		got = dump(c)
	}
	wantLast(t, name, archive, strings.ReplaceAll(got, dir+"/", ""))
}

// wantLast compares with an archive's last file, want, or rewrites it.
func wantLast(t *testing.T, name string, archive *txtar.Archive, got string) {
	t.Helper()
	last := &archive.Files[len(archive.Files)-1]
	if *update {
		last.Data = []byte(got)
		if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(last.Data), got); diff != "" || last.Name != "want" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// dump prints all that a Config says but the hashes of its files.
func dump(c Config) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
	line("%d stanzas: %d parsed, %d named", c.Stanzas.Found, c.Stanzas.Parsed, c.Stanzas.Named)
	if c.Hostname+c.Version != "" {
		line("host %s version %s", c.Hostname, c.Version)
	}
	if c.Global.Value != "" {
		line("global %s [%s]", c.Global.Value, c.Global.Origin)
	}
	dumpNetwork(line, c)
	for _, a := range c.Addresses {
		line("virtual-address %s %s domain %d disabled %v no-arp %v advertised %v "+
			"group %s [%s]", a.Name, rangeText(a.Addrs), a.Domain, a.Disabled, a.NoARP,
			a.Advertised, a.TrafficGroup, a.Origin)
	}
	for _, s := range c.SNATs {
		line("snat %s [%s]", s.Name, s.Origin)
	}
	for _, p := range c.SNATPools {
		line("snat-pool %s %v", p.Name, p.Members)
	}
	for _, n := range c.NATs {
		line("nat %s [%s]", n.Name, n.Origin)
	}
	for _, x := range c.Translations {
		line("translation %s %s %v domain %d no-arp %v [%s]", x.Kind, x.Name, x.Addr,
			x.Domain, x.NoARP, x.Origin)
	}
	if g, units := c.Pair(); len(units) > 0 {
		line("pair %s auto-sync %v save %v: %v [%s]", g.Name, g.AutoSync, g.SaveOnSync,
			units, g.Origin)
	}
	for _, v := range c.Virtuals {
		dumpVirtual(line, c, v)
	}
	for _, w := range c.Warnings {
		line("warning %s: %s: %s (%s) [%s]", w.Code, w.Subject, w.Message, w.Hint, w.Origin)
	}
	return b.String()
}

func dumpNetwork(line func(string, ...any), c Config) {
	for _, v := range c.VLANs {
		line("%s %s domain %d auto-lasthop %s source-checking %v proxy %v members %v [%s]",
			v.Kind, v.Name, v.Domain, v.AutoLastHop, v.SourceChecking, v.Proxy,
			v.Members, v.Origin)
		if v.HA {
			line("ha %s", v.Name)
		}
	}
	for _, s := range c.Selfs {
		line("self %s %v domain %d vlan %s floating %v [%s]", s.Name, s.Prefix, s.Domain,
			s.VLAN, s.Floating, s.Origin)
	}
	for _, r := range c.Routes {
		line("route %s %v domain %d gateway %v pool %q interface %q [%s]", r.Name,
			r.Network, r.Domain, r.Gateway, r.Pool, r.Interface, r.Origin)
	}
	for _, d := range c.Domains {
		line("route-domain %s id %d protocols %v [%s]", d.Name, d.ID, d.Protocols, d.Origin)
	}
	for _, p := range c.Pools {
		line("pool %s %s [%s]", p.Name, membersText(p.Members), p.Origin)
	}
}

func dumpVirtual(line func(string, ...any), c Config, v Virtual) {
	line("%s %s %s %s vlans %s auto-lasthop %s [%s]", v.Kind, v.Name, v.Type, v.Protocol,
		scopeText(v.VLANs), v.AutoLastHop, v.Origin)
	if v.Source.IsValid() {
		line("  source %v", v.Source)
	}
	if x := v.Servers; x.Pool != "" || len(x.Unjudged) > 0 || x.NoTranslation || x.SNAT != "" {
		line("  servers %s snat %q untranslated %v unjudged %q", x.Pool, x.SNAT,
			x.NoTranslation, x.Unjudged)
	}
	if v.HTTP || v.TLS {
		line("  http %v tls %v", v.HTTP, v.TLS)
	}
	if v.Disabled != "" {
		line("  disabled by %s", v.Disabled)
	}
	if v.Damaged {
		line("  damaged")
	}
	for _, d := range v.Destinations {
		line("  to %s: %s domain %d port %s of %q [%s]", d.Text, rangeText(d.Addrs),
			d.Domain, portText(d), d.Address, d.Origin)
	}
	if v.LastHopPool != "" {
		line("  last-hop-pool %s %s", v.LastHopPool, membersText(v.LastHops))
	}
	for _, r := range v.Rules {
		line("  rule %s %v [%s]", r.Name, r.Commands, r.Origin)
	}
	for _, i := range c.Ingresses(v) {
		text := fmt.Sprintf("  from %q: %s by %s %s", i.VLAN, i.Return, i.Level, i.Value)
		if i.SourceChecking {
			text += ", source-checking"
		}
		if !i.Known {
			text += ", unknown VLAN"
		}
		line("%s [%s]", text, i.Origin)
	}
}

func rangeText(r netipx.IPRange) string {
	if p, ok := r.Prefix(); ok {
		return p.String()
	}
	return r.String()
}

func portText(d Destination) string {
	if d.AnyPort() {
		return "any"
	}
	var s []string
	if d.Service != "" {
		s = append(s, "name "+d.Service)
	}
	for _, p := range d.Ports {
		s = append(s, portRange(p))
	}
	return strings.Join(s, ",")
}

func portRange(p routing.PortRange) string {
	if p.First == p.Last {
		return fmt.Sprint(p.First)
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

func scopeText(s Scope) string {
	switch {
	case s.Unclear:
		return "unclear"
	case len(s.Only) > 0:
		return fmt.Sprintf("only %v", s.Only)
	case len(s.Except) > 0:
		return fmt.Sprintf("all but %v", s.Except)
	}
	return "all"
}

func membersText(members []Member) string {
	var s []string
	for _, m := range members {
		text := fmt.Sprintf("%s=%v%%%d", m.Name, m.Addr, m.Domain)
		if m.Disabled {
			text += "(disabled)"
		}
		s = append(s, text)
	}
	return strings.Join(s, " ")
}
