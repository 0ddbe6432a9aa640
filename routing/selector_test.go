package routing_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lasthop/routing"
)

// opaqueRules are rules of others behind our block, and what becomes of them:
// the rule of ours that repeats them, "hands off", or nothing.
var opaqueRules = []struct{ rule, want string }{
	{"uidrange 33-33 realms 3/7 lookup 7",
		"from 10.0.1.0/24 iif lo uidrange 33-33 realms 3/7 lookup 7"},
	{"oif eth0 dport 25 lookup 7", "from 10.0.1.0/24 iif lo oif eth0 dport 25 lookup 7"},
	{"from 10.0.1.8/29 ipproto 47 prohibit", "from 10.0.1.8/29 iif lo ipproto 47 prohibit"},
	{"from 10.0.9.0/24 ipproto 47 prohibit", ""},
	{"from 10.0.9.0/24 dscp 10 lookup 7", ""},
	{"dscp 10 lookup main", ""}, // the live rule asks main
	{"dscp 10 nop", ""},
	{"iif eth0 dscp 10 lookup 7", ""},
	{"not iif lo dscp 10 lookup 7", ""},
	{"tun_id 5 lookup 7", ""},
	{"dscp 10 lookup 7", "hands off"},
	{"sport 80 flowlabel 5 lookup 7", "hands off"},
	{"not to 192.0.2.0/24 lookup 7", "hands off"},
	{"not from 10.0.1.0/24 lookup 7", ""},
	{"not from 10.0.9.0/24 lookup 7", "hands off"},
	{"not from 10.0.1.0/24 dport 53 lookup 7", "hands off"},
	{"not iif eth0 lookup 7", ""}, // a catch-all
}

func TestOpaqueRules(t *testing.T) {
	const host = twoUplinks + "route add default via 10.0.0.9 dev eth0 table 7\n"
	for _, c := range opaqueRules {
		h := parseHost(t, host+"rule add pref 10000 "+c.rule+"\n")
		if i := slices.IndexFunc(h.Rules,
			func(r routing.Rule) bool { return r.Priority == 10000 }); i < 0 {
			t.Fatalf("%s: it is not there", c.rule)
		}
		p := planOf(t, h, listenOn("10.0.1.10"), nil, plain)
		got := ""
		for _, r := range p.State.Rules {
			if r.Priority < 5198 {
				got = strings.TrimSuffix(strings.TrimPrefix(r.Args(),
					fmt.Sprintf("pref %d ", r.Priority)), " protocol 76")
			}
		}
		if p.Outcomes[0].Reason == "opaque-rule" && len(p.State.Rules) == 0 {
			got = "hands off"
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.rule, got, c.want)
		}
	}
}

// TestLeaptOver: what a goto leaps over does not come alive by being repeated,
// for the packets that the goto matches.
func TestLeaptOver(t *testing.T) {
	for target, want := range map[string]string{
		"20000": "from 10.0.1.0/24 to 203.0.113.0/24 iif lo prohibit " +
			"from 10.0.1.0/24 to 192.0.2.0/24 iif lo unreachable",
		"20001": "from 10.0.1.0/24 to 192.0.2.0/24 iif lo blackhole " + // no such rule
			"from 10.0.1.0/24 to 203.0.113.0/24 iif lo prohibit " +
			"from 10.0.1.0/24 to 192.0.2.0/24 iif lo unreachable",
	} {
		p := planOf(t, parseHost(t, twoUplinks+`
			rule add pref 10000 to 192.0.2.0/24 goto `+target+`
			rule add pref 10001 to 192.0.2.0/24 blackhole
			rule add pref 10002 to 203.0.113.0/24 prohibit
			rule add pref 20000 to 192.0.2.0/24 unreachable
		`), listenOn("10.0.1.10"), nil, plain)
		var got []string
		for _, r := range p.State.Rules {
			if r.Priority < 5198 {
				got = append(got, strings.TrimSuffix(strings.SplitN(r.Args(), " ",
					3)[2], " protocol 76"))
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("goto %s: %q, want %q", target, s, want)
		}
	}
}

// TestHandsOffKeeps: a rule that comes while a path is installed changes
// nothing of it, and nothing of others.
func TestHandsOffKeeps(t *testing.T) {
	h := parseHost(t, twoUplinks)
	before := planOf(t, h, listenOn("10.0.1.10"), nil, plain)
	h = routing.With(parseHost(t, twoUplinks+"rule add pref 10000 dscp 10 lookup 7\n"+
		"route add default via 10.0.0.9 dev eth0 table 7\n"), before.State)
	after := planOf(t, h, listenOn("10.0.1.10"), nil, plain)
	if after.State.String() != before.State.String() {
		t.Errorf("before\n%s\nafter\n%s", before.State, after.State)
	}
	if o := after.Outcomes[0]; o.Status != routing.Ready {
		t.Errorf("%s is %s (%s), want ready: its path is there", o.Addr, o.Status, o.Reason)
	}
}
