package survey

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lasthop/internal/nstest"
	"lasthop/internal/settings"
	"lasthop/routing"
	"lasthop/routing/sim"
)

// TestMain is what prove runs, too: this program, in a fresh namespace.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == ProveCommand {
		if err := ProveHere(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(nstest.Main(m))
}

const provedHost = `
link add eth0 type veth
link add eth1 type veth
link set eth0 up
link set eth1 up
addr add 10.0.0.10/24 dev eth0
addr add 10.0.1.100/24 dev eth1
addr add 2001:db8:1::100/64 dev eth1
route add default via 10.0.0.1 dev eth0
route add default via 10.0.1.1 dev eth1 metric 100
-6 route add default via 2001:db8:1::1 dev eth1 metric 2000
`

// claim makes a plan of provedHost with n more routes, by each uplink in turn,
// and what listens there.
func claim(t testing.TB, n int, listen ...string) routing.Claim {
	t.Helper()
	if err := nstest.Available(); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	s, err := sim.Parse(provedHost)
	if err != nil {
		t.Fatal(err)
	}
	in := routing.Inputs{Policy: routing.Policy{Numbers: routing.DefaultNumbers}, Host: s.Host}
	for i := range n {
		r, err := routing.ParseRoute(routing.IPv4,
			fmt.Sprintf("%d.%d.%d.0/24 via 10.0.%d.1 dev eth%[4]d", 20+i>>16, i>>8&255,
				i&255, i&1))
		if err != nil {
			t.Fatal(err)
		}
		in.Host.Routes = append(in.Host.Routes, r)
	}
	for _, addr := range listen {
		l, err := settings.ParseListen(addr)
		if err != nil {
			t.Fatal(err)
		}
		in.Listeners = append(in.Listeners, l)
	}
	d, err := routing.Decide(in)
	if err != nil {
		t.Fatal(err)
	}
	return routing.Claim{Host: in.Host, Plan: d.Plan, Numbers: in.Policy.Numbers}
}

// TestProveLies: the kernel finds whatever is wrong with a plan.
func TestProveLies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		lie  func(*routing.Plan)
		want string // one of the differences: when, subject, got; "" if there is none
	}{
		{"no lie", func(*routing.Plan) {}, ""},
		{"a rule to another table", func(p *routing.Plan) { p.State.Rules[1].Table = routing.TableMain },
			"after 10.0.1.100 to 198.51.100.1: eth0 via 10.0.0.1, table main"},
		{"a table without its default", func(p *routing.Plan) {
			p.State.Routes = slices.DeleteFunc(p.State.Routes,
				func(r routing.Route) bool {
					return r.IsDefault() && r.Family() == routing.IPv4
				})
		}, "after 10.0.1.100 to 198.51.100.1: eth0 via 10.0.0.1, table main"},
		{"a promise", func(p *routing.Plan) { p.Outcomes[0].After.Via = netip.MustParseAddr("10.0.1.2") },
			"after 10.0.1.100 to 198.51.100.1: eth1 via 10.0.1.1, table 20431"},
		{"a past", func(p *routing.Plan) { p.Outcomes[0].Before.Link = "eth1" }, "before 10.0.1.100 to 198.51.100.1: eth0 via 10.0.0.1, table main"},
		{"a route in place of somebody's", func(p *routing.Plan) {
			r := p.State.Routes[1]
			r.Table = routing.TableMain
			p.State.Routes = append(p.State.Routes, r)
		}, "apply ip route replace 10.0.1.0/24 dev eth1 proto kernel scope link src 10.0.1.100: gone"},
		{"a route that the kernel refuses", func(p *routing.Plan) {
			i := slices.IndexFunc(p.State.Routes,
				func(r routing.Route) bool { return r.IsDefault() })
			p.State.Routes[i].Hops = []routing.Hop{{Link: "eth1",
				Via: netip.MustParseAddr("192.0.2.1"), Weight: 1}}
		}, "apply changes: ip route replace default via 192.0.2.1 dev eth1 table 20431 proto 76: network is unreachable: Nexthop has invalid gateway"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := claim(t, 0, "10.0.1.100:80", "[2001:db8:1::100]:80")
			tt.lie(&c.Plan)
			p, err := prove(c)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range p.Differences {
				got = append(got,
					fmt.Sprintf("%s %s: %s", d.When, d.Subject, d.Got))
			}
			if tt.want == "" && len(got) > 0 || tt.want != "" &&
				!slices.Contains(got, tt.want) || p.Asked != 10 ||
				len(p.NotRebuilt) > 0 {
				t.Errorf("the kernel says\n%s\nwant\n%s\n"+
					"%d answers, not rebuilt: %q", strings.Join(got, "\n"),
					tt.want, p.Asked, p.NotRebuilt)
			}
		})
	}
}

func TestProveRemedy(t *testing.T) {
	for _, tt := range []struct{ file, value, want string }{
		{"", "", "run it as root; a container needs CAP_SYS_ADMIN, or a runtime that lets it make user namespaces"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1\n", "run it as root, or allow it: sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
		{"kernel/unprivileged_userns_clone", "0\n", "run it as root, or allow it: sysctl kernel.unprivileged_userns_clone=1"},
		{"kernel/unprivileged_userns_clone", "1\n", "run it as root; a container needs CAP_SYS_ADMIN, or a runtime that lets it make user namespaces"},
		{"user/max_net_namespaces", "0\n", "run it as root, or allow it: sysctl user.max_net_namespaces=1000"},
	} {
		dir := t.TempDir()
		if tt.file != "" {
			path := filepath.Join(dir, tt.file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
				os.WriteFile(path, []byte(tt.value), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		if got := remedy(dir); got != tt.want {
			t.Errorf("%s=%q: %q, want %q", tt.file, tt.value, got, tt.want)
		}
	}
}

// BenchmarkProve proves plans of hosts of several sizes.
func BenchmarkProve(b *testing.B) {
	for _, n := range []int{0, 1000, 100000} {
		b.Run(fmt.Sprint("routes=", n), func(b *testing.B) {
			c := claim(b, n, "10.0.1.100:80", "[2001:db8:1::100]:80")
			for b.Loop() {
				p, err := prove(c)
				if err != nil || len(p.Differences)+len(p.NotRebuilt) > 0 {
					b.Fatalf("%v %v %v", err, p.Differences, p.NotRebuilt)
				}
				b.ReportMetric(float64(p.Asked), "answers")
			}
		})
	}
}
