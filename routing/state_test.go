package routing

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnionAndServing(t *testing.T) {
	parse := func(lines ...string) (s State) {
		for _, l := range lines {
			if r, err := ParseRoute(IPv4, l); err == nil {
				s.Routes = append(s.Routes, r)
				continue
			}
			r, err := ParseRule(IPv4, l)
			if err != nil {
				t.Fatal(err)
			}
			s.Rules = append(s.Rules, r)
		}
		s.Sort()
		return s
	}
	one := []string{"default via 10.0.1.1 dev eth1 table 20001 proto 76 onlink",
		"10.0.1.0/24 dev eth1 table 20001 proto 76 scope link",
		"5102: from 10.0.1.0/24 iif lo lookup main suppress_prefixlength 7 proto 76",
		"5103: from 10.0.1.0/24 iif lo lookup 20001 proto 76"}
	two := []string{"default via 10.0.2.1 dev eth2 table 20002 proto 76 onlink",
		"5103: from 10.0.2.0/24 iif lo lookup 20002 proto 76"}
	a, b := parse(one...), parse(two...)
	both := parse(slices.Concat(one, two)...)
	for _, tt := range []struct {
		name      string
		got, want State
	}{
		{"union", a.Union(b), both},
		{"union with itself", a.Union(a), a},
		{"union with nothing", a.Union(State{}), a},
		{"serving eth1", both.Serving("eth1", IPv4), a},
		{"serving eth2", both.Serving("eth2", IPv4), b},
		{"serving another family", both.Serving("eth1", IPv6), State{}},
		{"serving no link", both.Serving("eth3", IPv4), State{}},
	} {
		if d := cmp.Diff(tt.want.String(), tt.got.String()); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, d)
		}
	}
	other := parse("default via 10.0.1.9 dev eth1 table 20001 proto 76 onlink")
	if got := a.Union(other); got.String() != a.String() {
		t.Errorf("a route of the same key: %s", got)
	}
	if (State{}).Empty() != true || a.Empty() {
		t.Error("Empty is wrong")
	}
}
