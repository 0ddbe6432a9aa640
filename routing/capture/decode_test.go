package capture

import (
	"errors"
	"strings"
	"testing"
)

func TestBadCaptures(t *testing.T) {
	good := `{"version":1,"host":"h","time":"2026-01-02T03:04:05Z","kernel":"6.1","links":[],"addrs":[],"routes":[],"rules":[]}`
	if _, err := Decode("good.json", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"rules":[]`, `"rules":[],"colour":1`, "x.json: colour: unknown key"},
		{`,"rules":[]`, ``, "x.json: rules: missing key"},
		{`"version":1`, `"version":2`, "x.json: version: want 1, not 2"},
		{`"links":[]`, `"links":7`, "x.json: links: "},
		{`"links":[]`, `"links":null`, "x.json: links: want a list, not null"},
		{`"routes":[]`, `"routes":[{"dst":"10.0.0.0/8","dev":"e","table":"main","protocol":"3","scope":"0"},{"dst":"10.0.0.300","table":"1"}]`, "x.json: routes[1].dst: "},
		{`"routes":[]`, `"routes":[{"dst":17}]`, "x.json: routes[0].dst: "},
		{`"rules":[]`, `"rules":[{"src":"all","table":"main"}]`, "x.json: rules[0].priority: missing key"},
		{`"routes":[]`, `"routes":[{"dst":"10.0.0.0/8","dev":"e","metric":"7"}]`, "x.json: routes[0].metric: want a number from 0 to 4294967295, not \"7\""},
		{`"routes":[]`, `"routes":[7]`, "x.json: routes[0]: want an object, not 7"},
		{`"links":[]`, `"links":[{"ifindex":1}]`, "x.json: links[0].ifname: missing key"},
		{`"links":[]`, `"links":[{"ifname":"lo"},{"ifname":"e","group":"uplinks"}]`, "x.json: links[1].group: \"uplinks\" is not a number"},
		{`"addrs":[]`, `"addrs":[{"ifname":"e","addr_info":[{"family":"inet","local":"10.0.0.1","prefixlen":8,"scope":"far"}]}]`, "x.json: addrs[0].addr_info[0].scope: "},
		{`"addrs":[]`, `"addrs":[{"ifname":"e","addr_info":[{"family":"inet6","local":"::1","prefixlen":8,"tentative":7}]}]`, "x.json: addrs[0].addr_info[0].tentative: want true, false or null, not 7"},
		{`"addrs":[]`, `"addrs":[{"ifname":"e","addr_info":[{"family":"inet","local":"10.0.0.1","prefixlen":99}]}]`, "x.json: addrs[0].addr_info[0].prefixlen: want a number from 0 to 32, not 99"},
		{`"host":"h",`, "\n\"host\":\"h\"\n", "x.json: document: line 3, column 1: "},
	} {
		data := strings.Replace(good, c.old, c.new, 1)
		_, err := Decode("x.json", []byte(data))
		var captureErr *Error
		if !errors.As(err, &captureErr) || !strings.HasPrefix(err.Error(), c.want) ||
			captureErr.Hint() == "" {
			t.Errorf("%s: got %v, want %s", c.new, err, c.want)
		}
	}
}

// A key may come twice where it is not read: `ip` prints some keys of tunnels
// so. A key that is read may not: nothing says which of the two is meant.
func TestKeyTwice(t *testing.T) {
	for links, want := range map[string]string{
		`{"ifname":"e","ttl":1,"ttl":2,"stats":{"rx":1,"rx":2}}`:                     "",
		`{"ifname":"e","ifname":"e"}`:                                                "x.json: links[0].ifname: is there twice",
		`{"ifname":"e","flags":[],"flags":["UP"]}`:                                   "x.json: links[0].flags: is there twice",
		`{"ifname":"e","linkinfo":{"info_kind":"a","info_kind":"b"}}`:                "x.json: links[0].linkinfo.info_kind: is there twice",
		`{"ifname":"e","linkinfo":{"info_kind":"a","info_slave":{},"info_slave":7}}`: "",
	} {
		data := `{"version":1,"host":"h","time":"2026-01-02T03:04:05Z","kernel":"6.1","links":[` + links +
			`],"addrs":[],"routes":[],"rules":[]}`
		got := ""
		if _, err := Decode("x.json", []byte(data)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", links, got, want)
		}
	}
}
