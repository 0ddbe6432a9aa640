package migrate

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"lasthop/bigip"
	"lasthop/routing"
	"lasthop/routing/sim"
)

var update = flag.Bool("update", false, "rewrite what the tests of testdata want")

// TestJoin joins the files of each archive of testdata/migrate with its host
// and listens, under its policy, and compares the result in the words of
// dump with its last file, want.
func TestJoin(t *testing.T) {
	names, err := filepath.Glob("../../testdata/migrate/*.txtar")
	if err != nil || len(names) < 10 {
		t.Fatal(len(names), "fixtures:", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"),
			func(t *testing.T) { testJoin(t, name) })
	}
}

func testJoin(t *testing.T, name string) {
	f := readFixture(t, name)
	r, err := f.selection.Join(f.config, f.in)
	if err != nil {
		t.Fatal(err)
	}
	want := &f.archive.Files[len(f.archive.Files)-1]
	got := strings.ReplaceAll(dump(r), f.dir+"/", "")
	if *update {
		want.Data = []byte(got)
		if err := os.WriteFile(name, txtar.Format(f.archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(want.Data), got); diff != "" || want.Name != "want" {
		t.Errorf("-want +got\n%s", diff)
	}
	f.converges(t, r)
}

// fixture is an archive of testdata/migrate.
type fixture struct {
	archive *txtar.Archive
	dir     string
	host    string
	config  bigip.Config
	in      routing.Inputs

	selection Selection
}

func readFixture(t *testing.T, name string) fixture {
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{archive: archive, dir: t.TempDir(),
		in: routing.Inputs{Policy: routing.Policy{Numbers: routing.DefaultNumbers}}}
	var paths []string
	for _, file := range archive.Files[:len(archive.Files)-1] {
		switch file.Name {
		case "host":
			f.host = string(file.Data)
			f.in.Host = hostOf(t, f.host)
		case "listens":
			f.in.Listeners = listens(t, string(file.Data))
		case "select":
			f.selection = readSelection(t, string(file.Data))
		case "policy":
			readPolicy(t, &f.in.Policy, string(file.Data))
		default:
			paths = append(paths, filepath.Join(f.dir, file.Name))
			if err := os.WriteFile(paths[len(paths)-1], file.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if f.config, err = bigip.Load(paths...); err != nil {
		t.Fatal(err)
	}
	return f
}

func hostOf(t testing.TB, lines string) routing.Host {
	t.Helper()
	s, err := sim.Parse(lines)
	if err != nil {
		t.Fatal(err)
	}
	return s.Host
}

// converges follows the flags except for those that only a person can fill in,
// and adds the routes. A second run asks for nothing then that the first did
// not.
func (f fixture) converges(t *testing.T, first Result) {
	for _, s := range first.Steps {
		for _, line := range s.Lines {
			if route, ok := strings.CutPrefix(line, "ip route add "); ok {
				f.host += "route add " + route + "\n"
			}
		}
	}
	f.in.Host = hostOf(t, f.host)
	var followed []string
	for _, flag := range first.Flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), " ")
		subject, value, _ := strings.Cut(value, "=")
		if !strings.Contains(value, "ADDR") {
			followed = append(followed, name+" "+subject+" "+value)
		}
	}
	f.in.Policy.Addresses = slices.DeleteFunc(slices.Clone(f.in.Policy.Addresses),
		func(p routing.AddressPin) bool {
			return slices.ContainsFunc(followed, func(line string) bool {
				return strings.HasPrefix(line, "address "+p.Addr.String()+" ")
			})
		})
	readPolicy(t, &f.in.Policy, strings.Join(followed, "\n"))
	second, err := f.selection.Join(f.config, f.in)
	if err != nil {
		t.Fatal(err)
	}
	asked := map[[3]string][]string{} // rows of several VLANs may be other ones then
	for _, r := range first.Rows {
		at := [3]string{r.Virtual, r.Destination, r.Port}
		asked[at] = append(append(asked[at], r.Reason), r.Also...)
	}
	for _, r := range second.Rows {
		at := [3]string{r.Virtual, r.Destination, r.Port}
		for _, code := range append([]string{r.Reason}, r.Also...) {
			if r.Blocked() && !slices.Contains(asked[at], code) {
				t.Errorf("the second run asks %s for %s, %s, by %s", code,
					r.Virtual, r.Destination, r.VLAN)
			}
		}
	}
	for _, flag := range second.Flags {
		if !slices.Contains(first.Flags, flag) {
			t.Errorf("the second run asks for %s", flag)
		}
	}
}

// TestJoinDecides: the plan is for the virtual servers' addresses and for
// NGINX's listeners, but has the outcomes of the former alone. A policy that
// contradicts itself is an error.
func TestJoinDecides(t *testing.T) {
	s, err := sim.Parse(`link add eth0 type veth
link set eth0 up
addr add 10.0.0.10/24 dev eth0
route add default via 10.0.0.1 dev eth0
`)
	if err != nil {
		t.Fatal(err)
	}
	c, err := bigip.Parse("bigip.conf", []byte(`net vlan /Common/v { tag 1 }
net self /Common/s { address 10.0.0.2/24 vlan /Common/v }
ltm virtual /Common/a { destination /Common/10.0.0.100:80 ip-protocol tcp }
ltm virtual /Common/b { destination /Common/10.0.0.100:443 ip-protocol tcp }
ltm virtual /Common/c { destination /Common/10.0.0.101:80 reject }
`))
	if err != nil {
		t.Fatal(err)
	}
	in := routing.Inputs{Host: s.Host, Listeners: listens(t, "*:80\n10.0.0.10:22"),
		Policy: routing.Policy{Numbers: routing.DefaultNumbers}}
	r, err := Selection{}.Join(c, in)
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for _, o := range r.Plan.Outcomes {
		addrs = append(addrs, o.Addr.String())
	}
	if diff := cmp.Diff([]string{"10.0.0.100"}, addrs); diff != "" {
		t.Errorf("addresses of the plan: -want +got\n%s", diff)
	}
	var statuses []string
	for _, row := range r.Rows {
		statuses = append(statuses, row.Status)
	}
	if diff := cmp.Diff([]string{Ready, NeedsInput, NotApplicable}, statuses); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !r.Blocked() || (Result{Rows: r.Rows[:1]}).Blocked() {
		t.Error("Blocked does not tell the second row from the first")
	}
	in.Policy.Returns = []routing.ReturnPin{{Link: "eth0", Mode: routing.Strict},
		{Link: "eth0", Mode: routing.NoReturn}}
	if _, err := (Selection{}).Join(c, in); err == nil {
		t.Error("a policy that contradicts itself is taken")
	}
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
// `address 10.9.9.9 eth1` or `address 10.9.9.9 eth1,10.0.1.1`.
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
			pin := routing.AddressPin{Addr: netip.MustParseAddr(words[1])}
			link, gateway, _ := strings.Cut(words[2], ",")
			pin.Link = link
			pin.Gateway, _ = netip.ParseAddr(gateway)
			p.Addresses = append(p.Addresses, pin)
		}
	}
}

// readSelection reads lines like `only /Common/web_*` and `skip %2`.
func readSelection(t *testing.T, text string) (s Selection) {
	for line := range strings.Lines(text) {
		switch flag, pattern, _ := strings.Cut(strings.TrimSpace(line), " "); flag {
		case "only":
			s.Only = append(s.Only, pattern)
		case "skip":
			s.Skip = append(s.Skip, pattern)
		default:
			t.Fatal(line)
		}
	}
	return s
}

// dump prints all that a Result says but its plan.
func dump(m Result) string {
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
		if r.Source != "" {
			fmt.Fprintf(&b, "  source %s\n", r.Source)
		}
		if r.Decided != "" {
			fmt.Fprintf(&b, "  decided %s; loses %s\n", r.Decided, r.Loses)
		}
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
