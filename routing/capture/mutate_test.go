package capture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// byHand has the keys of `ip -N -j -d` that a capture of lasthop lacks.
const byHand = `{"version":1,"host":"h","time":"2026-01-02T03:04:05Z","kernel":"6.1","links":[{"ifindex":2,"ifname":"eth0","flags":["UP"],"mtu":1500,` +
	`"group":"0","linkinfo":{"info_kind":"vrf","info_data":{"table":10}}},{}],"addrs":[{"ifname":"eth0","addr_info":[{"family":"inet","local":"10.0.0.1",` +
	`"address":"10.0.0.2","prefixlen":32,"scope":"global","dadfailed":true}]}],"routes":[{"type":"unicast","dst":"10.0.0.0/8","from":"10.9.0.0/16","tos":"0x10",` +
	`"gateway":"10.0.0.3","dev":"eth0","encap":"ip","id":7,"src":"1.2.3.4","dst":"5.6.7.8","tos":0,"table":"254","protocol":"3","scope":"0","nhid":4,` +
	`"flow":{"from":"3","to":"7"},"metrics":[{"mtu":1400,"advmss":1300,"rtt":9,"ecn":null,"congestion":"bbr"}],"flags":[]},{"dst":"2001:db8::/32",` +
	`"nexthops":[{"via":{"family":"inet6","host":"fe80::1"},"dev":"eth0","weight":2,"flags":["onlink"],"flow":{"to":"8"},"encap":{"encap_type":"ip6","dst":"::1"}}],"table":"254","protocol":"3",` +
	`"pref":"high","flags":[]}],"rules":[{"priority":7,"not":null,"src":"10.0.0.0","srclen":8,"dst":"10.1.0.0","dstlen":16,"fwmark":"0x1","fwmask":"0xff",` +
	`"iif":"lo","oif":"eth0","tos":"0x10","uid_start":1,"uid_end":2,"ipproto":"tcp","sport_start":5,"sport_end":6,"dport":80,"flow_from":"1","flow_to":"2",` +
	`"dscp":"7","table":"254","suppress_prefixlen":7,"suppress_ifgroup":"76","protocol":"76"},{"family":"inet6","priority":8,"src":"all","goto":9,"iif_detached":null}` +
	`,{"priority":9,"src":"all","action":"7"},{"priority":9,"src":"all","nop":null},{"priority":9,"src":"all","l3mdev":null}],"sysctls":{"ipv4.ip_forward":1},` +
	`"filters":[{"dev":"eth0","pref":1,"handle":1,"kind":"bpf","name":"x"}],"wanted":[{"address":"10.0.0.1","port":80,"transport":"tcp"}],"last_hop":{"tag":"5b2","known":true}}`

// node is one value of a document.
type node struct {
	in    *node // the object or list that holds it; nil for the document itself
	key   string
	index int // its place in a list; -1 in an object
	raw   jsontext.Value
	kind  jsontext.Kind
	parts []*node // of an object or a list
}

// parse reads a document as a tree.
func parseTree(t *testing.T, document string) *node {
	t.Helper()
	dec := jsontext.NewDecoder(strings.NewReader(document), jsontext.AllowDuplicateNames(true))
	token := func() jsontext.Token {
		token, err := dec.ReadToken()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	var read func(n *node)
	read = func(n *node) {
		n.kind = dec.PeekKind()
		if n.kind != '{' && n.kind != '[' {
			raw, err := dec.ReadValue()
			if err != nil {
				t.Fatal(err)
			}
			n.raw = raw.Clone()
			return
		}
		token()
		for i := 0; dec.PeekKind() != '}' && dec.PeekKind() != ']'; i++ {
			x := &node{in: n, index: i}
			if n.kind == '{' {
				x.key, x.index = token().String(), -1
			}
			read(x)
			n.parts = append(n.parts, x)
		}
		token()
	}
	top := &node{index: -1}
	read(top)
	return top
}

func (n *node) pointer() jsontext.Pointer {
	switch {
	case n.in == nil:
		return ""
	case n.index >= 0:
		return n.in.pointer().AppendToken(strconv.Itoa(n.index))
	}
	return n.in.pointer().AppendToken(n.key)
}

// place is the way to the value, as errors name it.
func (n *node) place() string {
	return place(n.pointer())
}

// write writes the document with a raw text in place of one of its values; ""
// leaves the value out, with its key.
func (n *node) write(b *strings.Builder, at *node, raw string) {
	if n == at {
		b.WriteString(raw)
		return
	}
	ends := map[jsontext.Kind]string{'{': "{}", '[': "[]"}[n.kind]
	if ends == "" {
		b.Write(n.raw)
		return
	}
	comma := ""
	b.WriteByte(ends[0])
	for _, x := range n.parts {
		if x == at && raw == "" {
			continue
		}
		b.WriteString(comma)
		if comma = ","; n.kind == '{' {
			fmt.Fprintf(b, "%q:", x.key)
		}
		x.write(b, at, raw)
	}
	b.WriteByte(ends[1])
}

// walk calls do with every value of the document.
func (n *node) walk(do func(*node)) {
	do(n)
	for _, x := range n.parts {
		x.walk(do)
	}
}

var wrongs = []string{"", "null", "true", "false", `"x"`, `""`, `"a b"`, "7", "-1", "1.5", "1e999",
	"18446744073709551616", "[]", "[7]", `["x"]`, "[[]]", "{}", `{"a":1}`,
	"\"\xff\"", "\"a\\nb\"", strings.Repeat("[", 100) + strings.Repeat("]", 100), "tru", `"open`, `7,"version":1`, `7,"version":1,"version":1`, "\x00", "}"}

// large wrongs are put in place of every tenth value alone.
var large = []string{strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000),
	`"` + strings.Repeat("x", maxString+1) + `"`}

// namedBy are keys that are read together with other keys, which may be named.
var namedBy = map[string][]string{"srclen": {"src"}, "dstlen": {"dst"}, "fwmask": {"fwmark"},
	"first_port": {"last_port"}, "family": {"local", "address", "src", "dst"},
	"pref": {"dst"}, "type": {"dst"}}

// TestMutatedCaptures puts wrong values in place of every value of good
// captures. Each result is accepted, or refused with an error that names that
// value, or what is in it, or the object or list that it is in.
func TestMutatedCaptures(t *testing.T) {
	own, err := Encode(generator{rand.New(rand.NewPCG(11, 0))}.capture())
	if err != nil {
		t.Fatal(err)
	}
	values, mutations, refused := 0, 0, 0
	for _, good := range []string{byHand, string(own)} {
		if _, err := Decode("good", []byte(good)); err != nil {
			t.Fatal(err)
		}
		top := parseTree(t, good)
		top.walk(func(n *node) {
			values++
			try := wrongs
			if values%10 == 0 {
				try = slices.Concat(wrongs, large)
			}
			for i, wrong := range try {
				// the lists of lasthop are long, and their
				// elements alike
				if good != byHand && (values+i)%3 > 0 {
					continue
				}
				mutations++
				var b strings.Builder
				top.write(&b, n, wrong)
				_, err := Decode("x.json", []byte(b.String()))
				if err == nil {
					continue
				}
				refused++
				var ce *Error
				if !errors.As(err, &ce) || !namesPlace(ce.Key, n) ||
					len(err.Error()) > 300 || !utf8.ValidString(err.Error()) {
					t.Errorf("%s replaced by %.40q: %.300v",
						n.place(), wrong, err)
				}
			}
		})
	}
	t.Logf("%d values, %d mutations, %d refused", values, mutations, refused)
	if refused < mutations/2 {
		t.Errorf("only %d are refused", refused)
	}
}

// namesPlace reports whether the key of an error is the value's, or on the way
// to it or from it, or of the next element of its list.
func namesPlace(key string, n *node) bool {
	if n.in == nil {
		return key != ""
	}
	places := []string{n.place()}
	for _, other := range append(namedBy[n.key], "version") { // which some of the wrongs add
		places = append(places, (&node{in: n.in, key: other, index: -1}).place())
	}
	if n.index >= 0 {
		places = append(places, (&node{in: n.in, index: n.index + 1}).place(),
			(&node{in: n.in, index: n.index + 2}).place())
	}
	within := func(a, b string) bool {
		return a == b || strings.HasPrefix(a, b+".") || strings.HasPrefix(a, b+"[")
	}
	return key == "document" && n.in.in == nil || slices.ContainsFunc(places,
		func(p string) bool { return within(key, p) || within(p, key) })
}

// TestTruncatedCaptures: wherever a document ends too early, the error says
// where.
func TestTruncatedCaptures(t *testing.T) {
	for end := range len(byHand) {
		_, err := Decode("x.json", []byte(byHand[:end]))
		if err == nil || !strings.Contains(err.Error(), "line 1, column ") {
			t.Errorf("%q: %v", byHand[max(0, end-20):end], err)
		}
	}
	if _, err := Decode("x.json", []byte(byHand+"\n{}")); err == nil ||
		err.Error() != "x.json: document: line 2, column 1: more after its end" {
		t.Error(err)
	}
}

// manyRoutes is a capture with so many routes, as `ip` prints them.
func manyRoutes(routes int) []byte {
	head, tail, _ := strings.Cut(byHand, `"routes":[`)
	var b strings.Builder
	b.WriteString(head + `"routes":[`)
	for i := range routes {
		fmt.Fprintf(&b, `{"type":"1","dst":"10.%d.%d.%d","gateway":"10.0.0.1","dev":"eth0","table":"254","protocol":"186","scope":"0","flags":[]},`, i>>16, i>>8&0xff, i&0xff)
	}
	b.WriteString(tail)
	return []byte(b.String())
}

// TestManyRoutes: 100,000 routes are read in a time that grows with them and
// not with their square: seconds, minutes on a busy machine with the race
// detector.
func TestManyRoutes(t *testing.T) {
	data := manyRoutes(100000)
	start := time.Now()
	c, err := Decode("big.json", data)
	took := time.Since(start)
	if err != nil || len(c.Host.Routes) < 100000 {
		t.Fatalf("%d routes, %v", len(c.Host.Routes), err)
	}
	t.Logf("%d bytes in %v", len(data), took)
	if took > 2*time.Minute {
		t.Errorf("took %v", took)
	}
}

// BenchmarkDecode reads a capture with 100,000 routes.
func BenchmarkDecode(b *testing.B) {
	data := manyRoutes(100000)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Decode("big.json", data); err != nil {
			b.Fatal(err)
		}
	}
}
