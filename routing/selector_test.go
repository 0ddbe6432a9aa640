package routing_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lasthop/routing"
)

// opaqueRules are foreign rules behind lasthop's block, and what becomes of
// them: the rule of lasthop that repeats them, "hands off", or nothing.
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
	{"not iif lo lookup 7", ""},
	{"not iif lo dscp 10 lookup 7", "hands off"}, // for every other dscp
	{"not from 10.0.9.0/24 fwmark 1 iif lo lookup 7", "hands off"},
	{"tun_id 5 lookup 7", ""},
	{"dscp 10 lookup 7", "hands off"},
	{"sport 80 flowlabel 5 lookup 7", "hands off"},
	{"not to 192.0.2.0/24 lookup 7", "hands off"},
	{"not from 10.0.1.0/24 lookup 7", ""},
	{"not from 10.0.9.0/24 lookup 7", "hands off"},
	{"not from 10.0.1.0/24 dport 53 lookup 7", "hands off"},
	{"not iif eth0 lookup 7", // a catch-all
		"from 10.0.1.0/24 iif lo lookup 7 suppress_prefixlength 7 suppress_ifgroup 76"},
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

// repeatedAs returns the exceptions in front of the live rules, a line each.
func repeatedAs(p routing.Plan) string {
	var lines []string
	for _, r := range p.State.Rules {
		if r.Priority < 5198 {
			line := strings.SplitN(r.Args(), " ", 3)[2]
			lines = append(lines, strings.TrimSuffix(line, " protocol 76"))
		}
	}
	return strings.Join(lines, "\n")
}

// live is how the foreign tables are asked.
const live = " suppress_prefixlength 7 suppress_ifgroup 76"

// orders are foreign rules, and what stands in front of lasthop's live rules.
var orders = []struct{ name, rules, want string }{
	{"no rule behind", "20000 to 172.16.0.0/12 lookup main", ""},
	{"by destination", "20000 to 172.16.0.0/12 lookup main; 20001 uidrange 33-33 lookup 7",
		"from 10.0.1.0/24 to 172.16.0.0/12 iif lo lookup main" + live + "\n" +
			"from 10.0.1.0/24 to 172.16.0.0/12 iif lo lookup 20431\n" +
			"from 10.0.1.0/24 iif lo uidrange 33-33 lookup 7"},
	{"main but for its default", "20000 lookup main suppress_prefixlength 0; 20001 fwmark 1 lookup 7",
		"from 10.0.1.0/24 iif lo lookup main" + live + "\n" +
			"from 10.0.1.0/24 to 10.0.0.0/24 iif lo lookup 20431\n" +
			"from 10.0.1.0/24 iif lo lookup 20431 suppress_prefixlength 7\n" +
			"from 10.0.1.0/24 fwmark 0x1 iif lo lookup 7"},
	{"an own suppressor", "3000 lookup 8 suppress_prefixlength 16",
		"from 10.0.1.0/24 iif lo lookup 8 suppress_prefixlength 16 suppress_ifgroup 76"},
	{"an own group", "3000 lookup 8 suppress_ifgroup 5", ""},
	{"a VPN behind main", "3000 lookup main suppress_prefixlength 0; 3001 lookup 8",
		"from 10.0.1.0/24 iif lo lookup main" + live + "\n" +
			"from 10.0.1.0/24 to 10.0.0.0/24 iif lo lookup 20431\n" +
			"from 10.0.1.0/24 iif lo lookup 20431 suppress_prefixlength 7\n" +
			"from 10.0.1.0/24 iif lo lookup 8" + live},
	{"a VPN behind main, with its default alone",
		"3000 lookup main suppress_prefixlength 0; 3001 lookup 7", ""},
	{"a VPN that passes its own packets by", "3000 not fwmark 0x9 lookup 8",
		"from 10.0.1.0/24 fwmark 0x9 iif lo lookup main" + live + "\n" +
			"from 10.0.1.0/24 fwmark 0x9 iif lo lookup 20431\n" +
			"from 10.0.1.0/24 iif lo lookup 8" + live},
	{"a VPN with realms", "3000 lookup 8 realms 3",
		"from 10.0.1.0/24 iif lo realms 3 lookup 8" + live},
	{"a rule behind a VPN", "3000 lookup 8; 3001 to 192.0.2.0/24 lookup 7",
		"from 10.0.1.0/24 iif lo lookup 8" + live + "\n" +
			"from 10.0.1.0/24 to 192.0.2.0/24 iif lo lookup 7"},
	{"a VPN behind another", "3000 lookup 8; 3001 lookup 7",
		"from 10.0.1.0/24 iif lo lookup 8" + live},
	{"a dead rule behind main", "40000 from 10.0.1.10 blackhole", ""},
	{"a rule for what passes a VPN by",
		"3000 not fwmark 0x9 lookup 8; 3001 fwmark 0x9 lookup 7",
		"from 10.0.1.0/24 fwmark 0x9 iif lo lookup 7"},
	{"main with a suppressor of its own",
		"20000 lookup main suppress_prefixlength 16; 20001 fwmark 1 lookup 7",
		"from 10.0.1.0/24 iif lo lookup main suppress_prefixlength 16 suppress_ifgroup 76\n" +
			"from 10.0.1.0/24 to 10.0.0.0/24 iif lo lookup 20431\n" +
			"from 10.0.1.0/24 iif lo lookup 20431 suppress_prefixlength 16\n" +
			"from 10.0.1.0/24 fwmark 0x1 iif lo lookup 7"},
	{"a goto over a rule", "20000 to 192.0.2.0/24 goto 32766; 20001 to 192.0.2.0/25 blackhole",
		"hands off"},
	{"a goto over nothing", "20000 to 192.0.2.0/24 goto 32766; 20001 to 192.0.2.0/25 nop", ""},
	{"a goto to nowhere", "20000 to 192.0.2.0/24 goto 32765; 20001 to 192.0.2.0/25 blackhole",
		"from 10.0.1.0/24 to 192.0.2.0/25 iif lo blackhole"},
}

// TestOrderKept: what stands in front of a foreign rule stays in front of it
// when that is repeated. For main that is what it knows elsewhere, then the
// path's table in its place; packets for which it knew all get no further.
func TestOrderKept(t *testing.T) {
	for _, c := range orders {
		h := parseHost(t, twoUplinks+`
			link add wg0 type wireguard
			link set wg0 up
			route add default dev wg0 table 7
			route add default dev wg0 table 8
			route add 10.99.0.0/16 dev wg0 table 8
			route add 10.98.1.0/24 dev wg0 table 8
			`+"rule add pref "+strings.ReplaceAll(c.rules, "; ", "\nrule add pref ")+"\n")
		p := planOf(t, h, listenOn("10.0.1.10"), nil, plain)
		got := repeatedAs(p)
		if p.Outcomes[0].Reason == "opaque-rule" {
			got = "hands off"
		}
		if c.rules[0] == '3' { // the block stands in front of it
			lines := strings.Split(got, "\n")
			got = strings.Join(lines[:max(len(lines)-2, 0)], "\n")
		}
		if got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// TestHandsOffKeeps: a rule that comes while a path is installed changes
// nothing of the path, and no foreign object.
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

// TestHandsOffKeepsEqualDefaults: all that is installed is kept, both IPv4
// defaults of one metric, too.
func TestHandsOffKeepsEqualDefaults(t *testing.T) {
	const both = twoUplinks + "route append default via 10.0.1.2 dev eth1 metric 200\n"
	before := planOf(t, parseHost(t, both), listenOn("10.0.1.10"), nil, plain)
	if n := strings.Count(before.State.String(), "default via 10.0.1."); n != 2 {
		t.Fatalf("%d defaults, want 2:\n%s", n, before.State)
	}
	h := routing.With(parseHost(t, both+"rule add pref 10000 dscp 10 lookup 7\n"+
		"route add default via 10.0.0.9 dev eth0 table 7\n"), before.State)
	after := planOf(t, h, listenOn("10.0.1.10"), nil, plain)
	if after.State.String() != before.State.String() {
		t.Errorf("before\n%s\nafter\n%s", before.State, after.State)
	}
}

func TestProtocolNumber(t *testing.T) {
	for word, want := range map[string]uint8{"tcp": 6, "ipv6-icmp": 58, "sctp": 132, "47": 47,
		"nothing": 0, "": 0} {
		if got := routing.ProtocolNumber(word); got != want {
			t.Errorf("%q is %d, want %d", word, got, want)
		}
	}
}

// TestPorts: a rule for a port decides only about the listener there, and the
// plan says so of that one.
func TestPorts(t *testing.T) {
	h := parseHost(t, twoUplinks+`
		route add default via 10.0.0.9 dev eth0 table 7
		rule add pref 20000 ipproto udp lookup 7
		rule add pref 20001 ipproto tcp sport 443-444 lookup 7
	`)
	listeners := append(listenOn("10.0.1.10"), listenOn("10.0.1.10")...)
	listeners[1].Ports = routing.PortRange{First: 443, Last: 443}
	p := planOf(t, h, listeners, nil, plain)
	got := fmt.Sprint(p.Outcomes[0].Status, ": ", p.Outcomes[0].After, "; ",
		p.Outcomes[1].Status, ": ", p.Outcomes[1].After)
	if want := "ready: eth1 via 10.0.1.1; unresolved: eth0 via 10.0.0.9"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	i := slices.IndexFunc(p.Findings,
		func(f routing.Finding) bool { return f.Code == "shadowed" })
	if f := p.Findings[i]; !strings.Contains(f.Hint, "rule del pref 20001 ") ||
		strings.Contains(f.Hint, "--address") {
		t.Errorf("%s: %s; --address does not decide about a rule for a port",
			f.Message, f.Hint)
	}
}
