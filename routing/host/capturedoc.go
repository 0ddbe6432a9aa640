package host

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"lasthop/routing"
)

// This file has the objects of a capture, both ways; those of iproute2 in its
// own shapes.

type linkDoc struct {
	Index  int       `json:"ifindex"`
	Name   string    `json:"ifname"`
	Flags  []string  `json:"flags"`
	MTU    int       `json:"mtu"`
	Master string    `json:"master,omitempty"`
	Group  text      `json:"group"`
	Info   *linkInfo `json:"linkinfo,omitempty"`
}

type linkInfo struct {
	Kind string    `json:"info_kind,omitempty"`
	Data *linkData `json:"info_data,omitempty"`
}

type linkData struct {
	Table text `json:"table,omitempty"` // of a vrf
}

func (n *node) link() routing.Link {
	flags, info := n.field("flags").strings(), n.field("linkinfo")
	has := func(flag string) bool { return slices.Contains(flags, flag) }
	l := routing.Link{Index: int(n.field("ifindex").number(1<<31 - 1)),
		Name: n.field("ifname").must().name(), MTU: int(n.field("mtu").number(1<<32 - 1)),
		Master: n.field("master").name(), Loopback: has("LOOPBACK"), Up: has("UP"),
		Carrier: has("LOWER_UP"), PointToPoint: has("POINTOPOINT"),
		Group: int(n.field("group").numeral("default", 31)),
		Kind:  info.field("info_kind").string()}
	if l.Kind == "vrf" {
		l.Table = uint32(info.field("info_data").field("table").numeral("", 32))
	}
	return l
}

func linkDocOf(l routing.Link) linkDoc {
	d := linkDoc{Index: l.Index, Name: l.Name, MTU: l.MTU, Master: l.Master,
		Group: text(strconv.Itoa(l.Group)), Flags: []string{}}
	for _, f := range []struct {
		on   bool
		name string
	}{{l.Loopback, "LOOPBACK"}, {l.PointToPoint, "POINTOPOINT"}, {l.Up, "UP"},
		{l.Carrier, "LOWER_UP"}} {
		if f.on {
			d.Flags = append(d.Flags, f.name)
		}
	}
	if l.Kind != "" {
		d.Info = &linkInfo{Kind: l.Kind}
	}
	if l.Kind == "vrf" {
		d.Info.Data = &linkData{number(l.Table)}
	}
	return d
}

type addrDoc struct {
	Name  string        `json:"ifname"`
	Addrs []addrInfoDoc `json:"addr_info"`
}

type addrInfoDoc struct {
	Family    string `json:"family"`
	Local     string `json:"local"`
	Peer      string `json:"address,omitempty"`
	Bits      int    `json:"prefixlen"`
	Scope     text   `json:"scope"`
	Temporary flag   `json:"temporary,omitempty"`
	NoPrefix  flag   `json:"noprefixroute,omitempty"`
	Tentative flag   `json:"tentative,omitempty"`
	DADFailed flag   `json:"dadfailed,omitempty"`
}

func (n *node) addrs() (out []routing.Addr) {
	link := n.field("ifname").must().name()
	for _, x := range n.field("addr_info").list() {
		family, ok := map[string]routing.Family{"inet": routing.IPv4,
			"inet6": routing.IPv6}[x.field("family").must().string()]
		if !ok {
			continue
		}
		local, bits := x.familyAddr("local", family),
			int(x.field("prefixlen").must().number(int64(family.Bits())))
		a := routing.Addr{Link: link, Prefix: netip.PrefixFrom(local, bits),
			Scope: x.field("scope").scope(), Temporary: x.field("temporary").flag(),
			NoPrefix:  x.field("noprefixroute").flag(),
			Tentative: x.field("tentative").flag() || x.field("dadfailed").flag()}
		if x.has("address") {
			a.Prefix, a.Peer = netip.PrefixFrom(local, family.Bits()),
				netip.PrefixFrom(x.familyAddr("address", family), bits)
		}
		out = append(out, a)
	}
	return out
}

func (n *node) familyAddr(key string, f routing.Family) netip.Addr {
	x := n.field(key).must()
	a := x.addr()
	if a.IsValid() && routing.FamilyOf(a) != f {
		x.want("an " + f.String() + " address")
	}
	return a
}

func (n *node) scope() uint8 {
	named := map[string]uint8{"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254,
		"nowhere": 255}
	if scope, ok := named[n.text()]; ok {
		return scope
	}
	return uint8(n.numeral("", 8))
}

func addrDocsOf(h routing.Host) []addrDoc {
	out := []addrDoc{}
	for _, a := range h.Addrs {
		x := addrInfoDoc{Family: familyWord(a.Prefix.Addr()),
			Local: a.Prefix.Addr().String(), Bits: a.Prefix.Bits(),
			Scope:     text(strconv.Itoa(int(a.Scope))),
			Temporary: flag(a.Temporary), NoPrefix: flag(a.NoPrefix),
			Tentative: flag(a.Tentative)}
		if a.Peer.IsValid() {
			x.Peer, x.Bits = a.Peer.Addr().String(), a.Peer.Bits()
		}
		if n := len(out); n > 0 && out[n-1].Name == a.Link {
			out[n-1].Addrs = append(out[n-1].Addrs, x)
			continue
		}
		out = append(out, addrDoc{a.Link, []addrInfoDoc{x}})
	}
	return out
}

func familyWord(a netip.Addr) string {
	if a.Is4() {
		return "inet"
	}
	return "inet6"
}

type neighDoc struct {
	Dst    string   `json:"dst"`
	Dev    string   `json:"dev"`
	MAC    string   `json:"lladdr,omitempty"`
	Router flag     `json:"router,omitempty"`
	State  []string `json:"state"`
}

func (n *node) neigh() routing.Neigh {
	return routing.Neigh{Link: n.field("dev").must().name(), Addr: n.field("dst").must().addr(),
		MAC:    n.field("lladdr").string(),
		Router: n.field("router").flag(),
		State:  strings.Join(n.field("state").strings(), ",")}
}

func neighDocOf(n routing.Neigh) neighDoc {
	return neighDoc{Dst: n.Addr.String(), Dev: n.Link, MAC: n.MAC, Router: flag(n.Router),
		State: []string{n.State}}
}

type leaseDoc struct {
	Dev     string `json:"dev"`
	Gateway string `json:"gateway"`
	Client  string `json:"client"`
}

func (n *node) lease() routing.Lease {
	return routing.Lease{Link: n.field("dev").must().name(),
		Gateway: n.field("gateway").must().addr(), Client: n.field("client").string()}
}

func leaseDocOf(l routing.Lease) leaseDoc { return leaseDoc{l.Link, l.Gateway.String(), l.Client} }

type listenDoc struct {
	Address   string   `json:"address"`
	First     uint16   `json:"first_port"`
	Last      uint16   `json:"last_port"`
	Transport string   `json:"transport"`
	Context   string   `json:"context,omitempty"`
	Listen    string   `json:"listen,omitempty"`
	Origins   []string `json:"origins,omitempty"`
	Servers   []string `json:"servers,omitempty"`
}

func (n *node) listener() routing.Listener {
	l := routing.Listener{Addr: n.field("address").must().addr().Unmap(), Ports: n.ports(),
		Transport: routing.Transport(n.field("transport").must().string()),
		Context:   n.field("context").string(), Listen: n.field("listen").string(),
		Origins: n.field("origins").strings(), Servers: n.field("servers").strings()}
	if l.Transport != routing.TCP && l.Transport != routing.UDP {
		n.field("transport").want("tcp or udp")
	}
	return l
}

func (n *node) ports() routing.PortRange {
	first, last := n.field("first_port").must(), n.field("last_port").must()
	p := routing.PortRange{First: uint16(first.number(65535)), Last: uint16(last.number(65535))}
	if p.Last < p.First {
		last.want(fmt.Sprintf("a port from %d on", p.First))
	}
	return p
}

func listenDocOf(l routing.Listener) listenDoc {
	return listenDoc{l.Addr.String(), l.Ports.First, l.Ports.Last, string(l.Transport),
		l.Context, l.Listen, l.Origins, l.Servers}
}

type bindDoc struct {
	Address     string   `json:"address,omitempty"`
	Transparent bool     `json:"transparent,omitempty"`
	Upstreams   []string `json:"upstreams,omitempty"`
	Origin      string   `json:"origin,omitempty"`
}

func (n *node) bind() routing.Bind {
	return routing.Bind{Addr: n.field("address").addr().Unmap(),
		Transparent: n.field("transparent").flag(), Origin: n.field("origin").string(),
		Upstreams: mapped(n.field("upstreams").list(), (*node).addr)}
}

func bindDocOf(b routing.Bind) bindDoc {
	d := bindDoc{Transparent: b.Transparent, Origin: b.Origin}
	if b.Addr.IsValid() {
		d.Address = b.Addr.String()
	}
	for _, u := range b.Upstreams {
		d.Upstreams = append(d.Upstreams, u.String())
	}
	return d
}

func (n *node) input() Input {
	return Input{File: n.field("file").must().string(),
		SHA256: n.field("sha256").must().string(), Main: n.field("main").flag()}
}

type warningDoc struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Origin  string `json:"origin,omitempty"`
}

// warning is a finding about the configuration.
func (n *node) warning() routing.Finding {
	return NginxWarning(n.field("code").must().string(), n.field("message").must().string(),
		n.field("hint").string(), n.field("origin").string())
}

// NginxWarning makes a finding of what was noticed in NGINX's configuration.
func NginxWarning(code, message, hint, origin string) routing.Finding {
	return routing.Finding{Code: routing.Code(code), Severity: routing.Warning,
		Subject: "nginx.conf", Message: message, Hint: hint, Origin: origin}
}

func warningDocOf(f routing.Finding) warningDoc {
	return warningDoc{string(f.Code), f.Message, f.Hint, f.Origin}
}

type dnatDoc struct {
	Addrs     []netip.Prefix `json:"addresses,omitempty"`
	Transport string         `json:"transport,omitempty"`
	First     uint16         `json:"first_port"`
	Last      uint16         `json:"last_port"`
	To        netip.Addr     `json:"to,omitzero"`
	Origin    string         `json:"origin"`
}

func (n *node) dnat() DNAT {
	p := n.ports()
	return DNAT{Addrs: mapped(n.field("addresses").list(), (*node).prefix),
		Transport: n.field("transport").string(), First: p.First, Last: p.Last,
		To: n.field("to").addr(), Origin: n.field("origin").string()}
}

func dnatDocOf(d DNAT) dnatDoc { return dnatDoc(d) }

func (n *node) prefix() netip.Prefix {
	p, err := netip.ParsePrefix(n.string())
	if err != nil {
		n.want("a prefix")
	}
	return p
}

func (n *node) sessions() SessionGroup {
	return SessionGroup{Local: n.field("local").must().addr(),
		Remote: n.field("remote").must().addr(),
		Count:  int(n.field("count").must().number(1 << 31)),
		Own:    n.field("own").flag()}
}

// texts reads an object of texts: of sysctls, for example, where a shell may
// have written numbers.
func (n *node) texts() map[string]string {
	out := map[string]string{}
	object, ok := n.value.(fields)
	if !ok {
		n.want("an object")
	}
	for _, f := range object {
		out[f.key] = n.field(f.key).text()
	}
	return out
}

func (n *node) flags(names []string) map[string][]string {
	out := map[string][]string{}
	object, ok := n.value.(fields)
	if !ok {
		n.want("an object")
	}
	for _, f := range object {
		if !slices.Contains(names, f.key) {
			f.fail("unknown key")
		}
		out[f.key] = f.strings()
	}
	return out
}

// numbersDoc is routing.Numbers as lasthop.yaml has them.
type numbersDoc struct {
	Protocol   uint8  `json:"protocol"`
	Group      int    `json:"group"`
	TableFirst uint32 `json:"table_first"`
	TableLast  uint32 `json:"table_last"`
	Base       int    `json:"priority"`
}

func (n *node) numbers() routing.Numbers {
	get := func(key string, least, most int64) int64 {
		return n.field(key).must().between(least, most)
	}
	first := get("table_first", 256, 1<<32-16)
	return routing.Numbers{Protocol: uint8(get("protocol", 5, 255)),
		Group: int(get("group", 1, 1<<31-1)), TableFirst: uint32(first),
		TableLast: uint32(get("table_last", first+15, 1<<32-1)),
		Base:      int(get("priority", 1, 32000)), Block: routing.DefaultNumbers.Block}
}

func numbersDocOf(n routing.Numbers) *numbersDoc {
	if n == (routing.Numbers{}) {
		return nil
	}
	return &numbersDoc{n.Protocol, n.Group, n.TableFirst, n.TableLast, n.Base}
}

func (n *node) time() time.Time {
	t, err := time.Parse(time.RFC3339, n.string())
	if err != nil {
		n.want("a time like 2026-01-02T03:04:05Z")
	}
	return t.UTC()
}
