package settings

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// compareSettings leaves the text of the file out.
var compareSettings = cmp.Options{cmpopts.IgnoreFields(Settings{}, "Text"),
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})}

// sampleSettings are those of deploy/lasthop.yaml with every line in force.
func sampleSettings(t *testing.T) Settings {
	addr := netip.MustParseAddr
	return Settings{File: "f.yaml", Confs: []string{"/etc/nginx/nginx.conf"},
		Listens:    listeners(t, "10.0.1.100:8443", "*:53/udp"),
		TableNames: true, TrustKernel: true, Metrics: "127.0.0.1:9176", MetricsHosts: []string{"metrics.example.com"},
		PlusAPI: "http://127.0.0.1:8080/api",
		Policy: routing.Policy{Numbers: routing.DefaultNumbers,
			FailClosed: []string{"eth1"},
			Gateways: []routing.GatewayPin{{Link: "eth1", Addr: addr("10.0.1.1")},
				{Link: "eth1", Addr: addr("2001:db8:1::1")}},
			Returns: []routing.ReturnPin{{Link: "eth1", Mode: routing.Strict},
				{Addr: addr("192.0.2.7"), Mode: routing.MainFirst}},
			Addresses: []routing.AddressPin{
				{Addr: addr("192.0.2.7"), Link: "eth1", Gateway: addr("10.0.1.1")}},
			Direct: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"),
				netip.MustParsePrefix("fd00:9::/32")},
			Flows: routing.DefaultFlows}}
}

func listeners(t *testing.T, words ...string) (out []routing.Listener) {
	t.Helper()
	for _, w := range words {
		l, err := ParseListen(w)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

// TestSampleConfig: the sample as it is shipped says nothing, and with its
// comment marks taken away says what it documents.
func TestSampleConfig(t *testing.T) {
	data, err := os.ReadFile("../../deploy/lasthop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("f.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	none := Settings{File: "f.yaml", Policy: routing.Policy{Numbers: routing.DefaultNumbers}}
	if d := cmp.Diff(none, got, compareSettings); d != "" {
		t.Errorf("as shipped: -want +got\n%s", d)
	}
	inForce := regexp.MustCompile(`(?m)^#([a-z]|  )`).ReplaceAll(data, []byte("$1"))
	if got, err = Parse("f.yaml", inForce); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sampleSettings(t), got, compareSettings); d != "" {
		t.Errorf("in force: -want +got\n%s", d)
	}
}

// TestByteOrderMark: one in front of the file, as editors of Windows write it,
// belongs to no key and to no comment. Lines may end as they do there.
func TestByteOrderMark(t *testing.T) {
	for _, text := range []string{"\ufefftable_names: true\n",
		"\ufeff# a comment\r\ntable_names: true\r\n"} {
		s, err := Parse("f.yaml", []byte(text))
		if err != nil || !s.TableNames || s.Text != text {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

// TestNumbers: mistakes elsewhere in the file do not hide its numbers. They are
// told, and are an error only of a file that was named.
func TestNumbers(t *testing.T) {
	own := routing.DefaultNumbers
	own.Protocol = 99
	for _, tt := range []struct {
		text, said string
		want       routing.Numbers
	}{
		{"numbers: {protocol: 99}\n", "", own},
		{"bogus: 1\nnumbers: {protocol: 99}\n", `:1: unknown key "bogus"`, own},
		{"numbers: {protocol: 99, group: none}\n",
			"protocol 99, group 76, tables 20000-20999, priority 5100", own},
		{"numbers: {protocol: 99}\ndirect: [\n", "protocol 76", routing.DefaultNumbers},
		{strings.Repeat("[", 100), "nested too deeply", routing.DefaultNumbers},
	} {
		file := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(file, []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		n, said, err := Flags{File: file}.Numbers()
		if err != nil || n != tt.want || !strings.Contains(said, tt.said) ||
			(said == "") != (tt.said == "") {
			t.Errorf("%q: %+v, %q, %v", tt.text, n, said, err)
		}
		_, said, err = Flags{File: file, FileGiven: true}.Numbers()
		if (err != nil) != (tt.said != "") || said != "" {
			t.Errorf("%q, named: %q, %v", tt.text, said, err)
		}
	}
}

// TestBadConfig: a mistake is named with file, line and key, and all are named.
func TestBadConfig(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "listen: []\ngateway: x", `f.yaml:2: unknown key "gateway"`},
		{"unknown key inside", "interfaces:\n  eth1:\n    gateway: 10.0.0.1", `f.yaml:3: interfaces.eth1: unknown key "gateway"`},
		{"duplicate key", "direct: []\ndirect: []", `f.yaml:2: mapping key "direct" already defined at [1:1]`},
		{"syntax", "listen: [1", "f.yaml:1: sequence end token ']' not found"},
		{"tab", "interfaces:\n\teth1: {}", `f.yaml:2: found character '	' that cannot start any token`},
		{"a list at the top", "- listen", `f.yaml:1: want keys with values, not a list`},
		{"a word at the top", "listen", `f.yaml:1: want keys with values, not words`},
		{"two documents", "listen: []\n---\nlisten: []", `f.yaml:3: a second document`},
		{"a word for a list", "nginx: /etc/nginx/nginx.conf", `f.yaml:1: nginx: want a list, not "/etc/nginx/nginx.conf"`},
		{"a list for a word", "table_names: [true]", `f.yaml:1: table_names: want a word, not a list`},
		{"no API", "plus_api: 127.0.0.1", `f.yaml:1: plus_api: "127.0.0.1" is not the address of an API`},
		{"no boolean", "table_names: yes please", `f.yaml:1: table_names: want true or false, not "yes please"`},
		{"mode", "interfaces:\n  eth1:\n    return: strikt", `f.yaml:3: interfaces.eth1.return: unknown mode "strikt"`},
		{"gateway", "interfaces: {eth1: {gateways: [10.0.0.300]}}", `f.yaml:1: interfaces.eth1.gateways: "10.0.0.300" is not an IP address`},
		{"IPv6 without quotes in a list", "interfaces: {eth1: {gateways: [2001:db8:1::1]}}", `f.yaml:1: interfaces.eth1.gateways: want a word, not a map; put an IPv6 address in quotes`},
		{"address", "addresses:\n  somewhere: {interface: eth1}", `f.yaml:2: addresses: "somewhere" is not an IP address`},
		{"gateway without interface", "addresses:\n  192.0.2.7: {gateway: 10.0.1.1}", `f.yaml:2: addresses.192.0.2.7: a gateway without its interface`},
		{"prefix", "direct: [10.0.0.0/40]", `f.yaml:1: direct: "10.0.0.0/40" is not a prefix`},
		{"listen", "listen: [10.0.0.1]", `f.yaml:1: listen: "10.0.0.1": not an address and port`},
		{"metrics everywhere by accident", `metrics: {listen: ":9176"}`, `f.yaml:1: metrics.listen: ":9176" is not an address and port`},
		{"protocol", "numbers: {protocol: 4}", `f.yaml:1: numbers.protocol: want a number from 5 to 255, not "4"`},
		{"no connections", "last_hop_flows: 0", `f.yaml:1: last_hop_flows: want a number from 1 to 67108864, not "0"`},
		{"connections in words", "last_hop_flows: many", `f.yaml:1: last_hop_flows: want a number from 1 to 67108864, not "many"`},
		{"priority", "numbers: {priority: 32766}", `f.yaml:1: numbers.priority: want a number from 1 to 32000, not "32766"`},
		{"tables", "numbers: {tables: 250-300}", `f.yaml:1: numbers.tables: "250-300" reaches below 256`},
		{"tables backwards", "numbers: {tables: 3000-2000}", `f.yaml:1: numbers.tables: "3000-2000" is not a range`},
		{"anchors", "listen: &a [1]\nnginx: *a", "f.yaml:1: listen: want a list, not an anchor, alias or tag\nf.yaml:2: nginx: want a list, not an anchor, alias or tag"},
		{"several mistakes", "a: 1\nb: 2", "f.yaml:1: unknown key \"a\"\nf.yaml:2: unknown key \"b\""},
		{"a tower of brackets", strings.Repeat("[", 1<<20), "f.yaml: nested too deeply"},
		{"a tower of dashes", strings.Repeat("- ", 1<<19), "f.yaml: nested too deeply"},
		{"a file of passwords", "root:$y$j9T$salt$hash:20228:0\ndaemon:*:20228\n", "f.yaml:1: want keys with values, not words"},
		{"a long name", "interfaces: {interface0123456: {return: off}}", `f.yaml:1: interfaces: "interface0123456" is not an interface name`},
		{"a name with a slash", "addresses: {10.0.0.1: {interface: a/b}}", `f.yaml:1: addresses.10.0.0.1.interface: "a/b" is not an interface name`},
		{"a long word", "nginx: [" + strings.Repeat("a", 5000) + "]", "f.yaml:1: nginx: a word of 5000 characters"},
		{"many mistakes", strings.Repeat("a: 1\n", 1) + "listen:\n" + strings.Repeat("- x\n", 10000), "f.yaml:1: unknown key \"a\"\n" + strings.Join(manyMistakes(), "")},
		{"binary", "\x00\x01\xff\xfe", "f.yaml:1: want keys with values, not"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tt.text))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
	for _, empty := range []string{"", "# nothing\n", "---\n", "interfaces:\n", "direct: ~"} {
		if _, err := Parse("f.yaml", []byte(empty)); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

// manyMistakes are lines 3 to 21 of a file with nothing but mistakes, and the
// end.
func manyMistakes() (lines []string) {
	for n := 3; n < 3+maxMistakes-1; n++ {
		lines = append(lines, fmt.Sprintf("f.yaml:%d: listen: \"x\": not an address and "+
			"port\n", n))
	}
	return append(lines, "f.yaml:22: 20 mistakes are enough: what comes from here on is not "+
		"reported")
}

// TestLinkNames: flags take the names that the kernel takes.
func TestLinkNames(t *testing.T) {
	for name, good := range map[string]bool{"eth0": true, "eth0.100": true, "a;b$(id)'": true,
		"interface012345": true, "-": true, "*": true, "interface0123456": false, "a b": false,
		"a/b": false, "..": false, "a:b": false, "a\nb": false} {
		for _, f := range []Flags{{Gateways: []string{name + "=none"}},
			{Returns: []string{name + "=off"}}, {FailClosed: []string{name}},
			{Addresses: []string{"10.0.0.1=" + name}}} {
			if _, err := f.settings(); (err == nil) != good {
				t.Errorf("%+v: %v", f.List(), err)
			}
		}
	}
}

// TestConfigFile: a path that is no file is refused immediately; only the
// default one may be missing.
func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, MaxFile+1),
		0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"fifo": "not a file but a pipe", ".": "not a file",
		"large": "too large", "missing": "no such file"} {
		f := Flags{File: filepath.Join(dir, name)}
		if _, err := Load(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		f.Once = true
		if _, err := Load(f); err == nil {
			t.Errorf("%s may be read once", name)
		}
	}
	for _, none := range []string{"", DefaultFile} {
		if _, err := os.Stat(none); err == nil {
			continue // this machine has one
		}
		if _, err := Load(Flags{File: none}); err != nil {
			t.Errorf("%q: %v", none, err)
		}
	}
}

// TestFlagsWin: a flag replaces what the file says of the same subject, and
// nothing else.
func TestFlagsWin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lasthop.yaml")
	text := "nginx: [/a]\nlisten: ['10.0.0.1:1']\ninterfaces: {eth1: {gateways: [10.0.1.1], " +
		"return: off}, eth2: {gateways: [10.0.2.1], return: off}}\n" +
		"addresses: {192.0.2.7: {interface: eth1}, 192.0.2.8: {interface: eth1}}\n" +
		"direct: [10.8.0.0/16]\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f := Flags{File: path, Confs: []string{"/b"}, Gateways: []string{"eth1=10.0.1.9"},
		Returns: []string{"eth2=strict"}, Addresses: []string{"192.0.2.8=eth2"},
		Direct: []string{"10.9.0.0/16"}}
	got, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, g := range got.Policy.Gateways {
		lines = append(lines, fmt.Sprintf("gateway %s=%s", g.Link, g))
	}
	for _, r := range got.Policy.Returns {
		lines = append(lines, fmt.Sprintf("return %s=%s", r.Link, r.Mode))
	}
	for _, a := range got.Policy.Addresses {
		lines = append(lines, fmt.Sprintf("address %s=%s", a.Addr, a))
	}
	lines = append(lines,
		fmt.Sprint(got.Confs, " ", got.Listens[0].Listen, " ", got.Policy.Direct))
	want := []string{"gateway eth2=10.0.2.1", "gateway eth1=10.0.1.9", "return eth1=off",
		"return eth2=strict", "address 192.0.2.7=eth1", "address 192.0.2.8=eth2",
		"[/b] 10.0.0.1:1 [10.8.0.0/16 10.9.0.0/16]"}
	if d := cmp.Diff(want, lines); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// FuzzConfig: no file makes it panic, and what it accepts, it accepts again.
func FuzzConfig(f *testing.F) {
	data, err := os.ReadFile("../../deploy/lasthop.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(regexp.MustCompile(`(?m)^#([a-z]|  )`).ReplaceAll(data, []byte("$1")))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err1 := Parse("f", data)
		b, err2 := Parse("f", data)
		if (err1 == nil) != (err2 == nil) || !cmp.Equal(a, b, compareSettings) {
			t.Errorf("two readings differ: %v, %v", err1, err2)
		}
	})
}
