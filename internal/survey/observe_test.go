package survey

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"
)

// TestObserveUplinks: two uplinks, before and after `apply`.
func TestObserveUplinks(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	for _, l := range s.listens {
		s.Serve(s.Host, l)
	}
	traffic := []func(){nstest.Knock(s.Client, "10.7.0.10:80", 4), nstest.Knock(s.Client, "10.7.1.100:80", 4),
		nstest.Knock(s.Client, "[2001:db8:1::10]:80", 4)}
	before := s.observe(`
10.7.0.10:80 off-link by eth0 10.7.0.1 -> eth0 10.7.0.1: symmetric works
10.7.1.100:80 off-link by eth1 10.7.1.1 -> eth0 10.7.0.1: asymmetric works
[2001:db8:1::10]:80 off-link by eth1 fe80::1:1 -> eth0 2001:db8::1: asymmetric works`,
		traffic...)
	want(t, "warning asymmetric", codes(before))

	s.more.Gateways = []string{"eth1=10.7.1.1", "eth1=2001:db8:1::1"}
	s.apply()
	after := s.observe(`
10.7.0.10:80 off-link by eth0 10.7.0.1 -> eth0 10.7.0.1: symmetric works
10.7.1.100:80 off-link by eth1 10.7.1.1 -> eth1 10.7.1.1: symmetric works
[2001:db8:1::10]:80 off-link by eth1 2001:db8:1::1 -> eth1 2001:db8:1::1: symmetric works`,
		traffic...)
	want(t, "", codes(after))
	for _, g := range after.Gateways {
		if !g.Agrees {
			t.Errorf("%+v does not agree", g)
		}
	}
}

// TestObserveUnansweredARP: the next hop of the replies ignores questions from
// an address of another subnet (strict rp_filter), so that no reply leaves. No
// question to the kernel shows it.
func TestObserveUnansweredARP(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.Serve(s.Host, "10.7.1.100:80")
	s.Router.Sysctl("net.ipv4.conf.all.rp_filter=1")
	s.Router.Sysctl("net.ipv4.conf.r0.rp_filter=1")
	seen := s.observe(`
10.7.1.100:80 off-link by eth1 10.7.1.1 -> asked for 10.7.0.1 on eth0: unanswered dark`,
		nstest.Knock(s.Client, "10.7.1.100:80", 4, "198.51.100.2", "198.51.100.3"))
	want(t, "error dark, warning seen-gateway", codes(seen))
	if limit := nstest.Patience(3 * time.Second); s.took > limit {
		t.Errorf("dark was said after %s, want at most %s", s.took, limit)
	}
	s.t.Run("check", func(t *testing.T) { want(t, "dark, seen-gateway", s.checked(seen)) })
}

// TestObserveContradicts: the host's routes call a way right that packets do
// not take, and wrong one that they do.
func TestObserveContradicts(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	s.listens = []string{"10.7.0.10:80", "10.7.1.100:80"}
	s.astray()
	for _, l := range s.listens {
		s.Serve(s.Host, l)
	}
	seen := s.observe(`
10.7.0.10:80 off-link by eth1 10.7.1.1 -> eth0 10.7.0.1: asymmetric works
10.7.1.100:80 off-link by eth0 10.7.0.1 -> eth0 10.7.0.1: symmetric works`,
		nstest.Knock(s.Client, "10.7.0.10:80", 4),
		nstest.Knock(s.Client, "10.7.1.100:80", 4))
	want(t, "asymmetric, seen-otherwise 10.7.0.10:80, seen-otherwise 10.7.1.100:80",
		s.checked(seen))
}

// astray makes the router send requests by other links than the addresses are
// on.
func (s *street) astray() {
	s.more.Gateways = []string{"eth1=10.7.1.1"}
	s.Router.IP("route add 10.7.0.10/32 via 10.7.1.10")
	s.Router.IP("route add 10.7.1.100/32 via 10.7.0.10")
}

// checked are the codes that packets add to a check, contradictions with their
// listener.
func (s *street) checked(seen routing.Seen) string {
	s.t.Helper()
	survey := s.look()
	checks, err := survey.Check()
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, f := range Contradictions(checks, &seen) {
		code := string(f.Code)
		if code == "seen-otherwise" {
			code += " " + f.Subject
		}
		out = append(out, code)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestObserveRefused: a closed port answers with a reset, which tells the way.
func TestObserveRefused(t *testing.T) {
	t.Parallel()
	s := newStreet(t)
	seen := s.observe(`
10.7.0.10:80 off-link by eth0 10.7.0.1 -> eth0 10.7.0.1: symmetric refused`,
		nstest.Knock(s.Client, "10.7.0.10:80", 4))
	want(t, "", codes(seen))
}

func want(t *testing.T, want, got string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// apply carries out what is planned.
func (s *street) apply() {
	s.t.Helper()
	survey := s.look()
	if survey.Decision.Diff.Empty() {
		s.t.Fatal("nothing is planned")
	}
	if _, err := survey.Place.Write(survey.Decision.Diff); err != nil {
		s.t.Fatal(err)
	}
}
