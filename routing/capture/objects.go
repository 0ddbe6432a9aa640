package capture

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

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
	Group  string    `json:"group"`
	Info   *linkInfo `json:"linkinfo,omitempty"`
}

type linkInfo struct {
	Kind string    `json:"info_kind,omitempty"`
	Data *linkData `json:"info_data,omitempty"`
}

type linkData struct {
	Table string `json:"table,omitempty"` // of a vrf
}

func readLink(r *reader) (routing.Link, bool) {
	var l routing.Link
	var table uint64
	o := r.object(map[string]func(){
		"flags": func() {
			flags := scalars(r, str)
			has := func(flag string) bool { return slices.Contains(flags, flag) }
			l.Loopback, l.PointToPoint = has("LOOPBACK"), has("POINTOPOINT")
			l.Up, l.Carrier = has("UP"), has("LOWER_UP")
		},
		"linkinfo": func() {
			info := r.object(map[string]func(){"info_data": func() {
				table = infoTable(r)
			}})
			l.Kind = field(info, "info_kind", str)
		},
	})
	if o.empty() {
		return l, false
	}
	l.Index, l.Name = int(field(o, "ifindex", number(0, 1<<31-1))), required(o, "ifname", name)
	l.MTU, l.Master = int(field(o, "mtu", number(0, 1<<32-1))), field(o, "master", name)
	l.Group = int(field(o, "group", numeral("default", 31)))
	if l.Kind == "vrf" {
		l.Table = uint32(table)
	}
	return l, true
}

// infoTable reads the data of a link's kind: of a VRF the table.
func infoTable(r *reader) uint64 { return field(r.object(nil), "table", numeral("", 32)) }

func linkDocOf(l routing.Link) linkDoc {
	d := linkDoc{Index: l.Index, Name: l.Name, MTU: l.MTU, Master: l.Master,
		Group: strconv.Itoa(l.Group),
		Flags: set(option{l.Loopback, "LOOPBACK"}, option{l.PointToPoint, "POINTOPOINT"},
			option{l.Up, "UP"}, option{l.Carrier, "LOWER_UP"})}
	if l.Kind != "" {
		d.Info = &linkInfo{Kind: l.Kind}
	}
	if l.Kind == "vrf" {
		d.Info.Data = &linkData{digitsOf(l.Table)}
	}
	return d
}

// option is a flag that is printed by its name if it is on.
type option struct {
	on   bool
	name string
}

// set returns the names of the flags that are on.
func set(options ...option) []string {
	out := []string{}
	for _, o := range options {
		if o.on {
			out = append(out, o.name)
		}
	}
	return out
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
	Scope     string `json:"scope"`
	Temporary bool   `json:"temporary,omitempty"`
	NoPrefix  bool   `json:"noprefixroute,omitempty"`
	Tentative bool   `json:"tentative,omitempty"`
	DADFailed bool   `json:"dadfailed,omitempty"`
}

// readAddrs reads the addresses of a link. Those of other families than IPv4
// and IPv6 are passed over.
func readAddrs(r *reader) (out []routing.Addr) {
	o := r.object(map[string]func(){"addr_info": func() { out = listOf(r, readAddr) }})
	if o.empty() {
		return nil
	}
	link := required(o, "ifname", name)
	for i := range out {
		out[i].Link = link
	}
	return out
}

func readAddr(r *reader) (a routing.Addr, ok bool) {
	o := r.object(nil)
	var family routing.Family
	switch required(o, "family", str) {
	case "inet":
		family = routing.IPv4
	case "inet6":
		family = routing.IPv6
	default:
		return a, false
	}
	local := required(o, "local", addrOf(family))
	bits := int(required(o, "prefixlen", number(0, int64(family.Bits()))))
	tentative, failed := field(o, "tentative", yes), field(o, "dadfailed", yes)
	a = routing.Addr{Prefix: netip.PrefixFrom(local, bits), Scope: field(o, "scope", scope),
		Temporary: field(o, "temporary", yes), NoPrefix: field(o, "noprefixroute", yes),
		Tentative: tentative || failed}
	if o.has("address") {
		a.Prefix = netip.PrefixFrom(local, family.Bits())
		a.Peer = netip.PrefixFrom(field(o, "address", addrOf(family)), bits)
	}
	return a, true
}

func addrOf(f routing.Family) func(*reader, scalar) netip.Addr {
	return func(r *reader, s scalar) netip.Addr {
		a := addr(r, s)
		if a.IsValid() && routing.FamilyOf(a) != f {
			r.want("an "+f.String()+" address", s)
		}
		return a
	}
}

func scope(r *reader, s scalar) uint8 {
	named := map[string]uint8{"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254,
		"nowhere": 255}
	if n, ok := named[s.text]; ok {
		return n
	}
	return uint8(numeral("", 8)(r, s))
}

func addrDocsOf(addrs []routing.Addr) []addrDoc {
	out := []addrDoc{}
	for _, a := range addrs {
		x := addrInfoDoc{Family: familyWord(a.Prefix.Addr()),
			Local: a.Prefix.Addr().String(), Bits: a.Prefix.Bits(),
			Scope:     strconv.Itoa(int(a.Scope)),
			Temporary: a.Temporary, NoPrefix: a.NoPrefix,
			Tentative: a.Tentative}
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
	Router bool     `json:"router,omitempty"`
	State  []string `json:"state"`
}

func readNeigh(r *reader) (n routing.Neigh, ok bool) {
	o := r.object(map[string]func(){"state": func() {
		n.State = strings.Join(scalars(r, str), ",")
	}})
	if o.empty() {
		return n, false
	}
	n.Link, n.Addr = required(o, "dev", name), required(o, "dst", addr)
	n.MAC, n.Router = field(o, "lladdr", str), field(o, "router", yes)
	return n, true
}

func neighDocOf(n routing.Neigh) neighDoc {
	return neighDoc{Dst: n.Addr.String(), Dev: n.Link, MAC: n.MAC, Router: n.Router,
		State: []string{n.State}}
}

type leaseDoc struct {
	Link    string     `json:"dev"`
	Gateway netip.Addr `json:"gateway"`
	Client  string     `json:"client"`
}

func readLease(r *reader) (routing.Lease, bool) {
	o := r.object(nil)
	return routing.Lease{Link: required(o, "dev", name), Gateway: required(o, "gateway", addr),
		Client: field(o, "client", str)}, true
}

func leaseDocOf(l routing.Lease) leaseDoc { return leaseDoc(l) }

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

func readListener(r *reader) (l routing.Listener, ok bool) {
	o := r.object(map[string]func(){
		"origins": func() { l.Origins = scalars(r, str) },
		"servers": func() { l.Servers = scalars(r, str) },
	})
	l.Addr, l.Ports, l.Transport = required(o, "address", addr).Unmap(), ports(o),
		required(o, "transport", transport)
	l.Context, l.Listen = field(o, "context", str), field(o, "listen", str)
	return l, true
}

func transport(r *reader, s scalar) routing.Transport {
	t := routing.Transport(str(r, s))
	if t != routing.TCP && t != routing.UDP {
		r.want("tcp or udp", s)
	}
	return t
}

func ports(o *object) (p routing.PortRange) {
	p.First = uint16(required(o, "first_port", number(0, 65535)))
	p.Last = uint16(required(o, "last_port", number(0, 65535)))
	if p.Last < p.First {
		o.r.failIn("last_port", "want a port from %d on, not %d", p.First, p.Last)
	}
	return p
}

func listenDocOf(l routing.Listener) listenDoc {
	return listenDoc{l.Addr.String(), l.Ports.First, l.Ports.Last, string(l.Transport),
		l.Context, l.Listen, l.Origins, l.Servers}
}

type bindDoc struct {
	Addr        netip.Addr   `json:"address,omitzero"`
	Transparent bool         `json:"transparent,omitempty"`
	Upstreams   []netip.Addr `json:"upstreams,omitempty"`
	Origin      string       `json:"origin,omitempty"`
}

func readBind(r *reader) (b routing.Bind, ok bool) {
	o := r.object(map[string]func(){"upstreams": func() { b.Upstreams = scalars(r, addr) }})
	b.Addr, b.Transparent, b.Origin = field(o, "address", addr).Unmap(),
		field(o, "transparent", yes), field(o, "origin", str)
	return b, true
}

func bindDocOf(b routing.Bind) bindDoc { return bindDoc(b) }

func readInput(r *reader) (Input, bool) {
	o := r.object(nil)
	return Input{File: required(o, "file", str), SHA256: required(o, "sha256", str),
		Main: field(o, "main", yes)}, true
}

type warningDoc struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Origin  string `json:"origin,omitempty"`
}

// readWarning reads a finding about the configuration.
func readWarning(r *reader) (routing.Finding, bool) {
	o := r.object(nil)
	return routing.NginxWarning(required(o, "code", str), required(o, "message", str),
		field(o, "hint", str), field(o, "origin", str)), true
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

func readDNAT(r *reader) (d routing.DNAT, ok bool) {
	o := r.object(map[string]func(){"addresses": func() { d.Addrs = scalars(r, prefix) }})
	p := ports(o)
	d.First, d.Last = p.First, p.Last
	d.Transport, d.To, d.Origin = field(o, "transport", str), field(o, "to", addr),
		field(o, "origin", str)
	return d, true
}

func dnatDocOf(d routing.DNAT) dnatDoc { return dnatDoc(d) }

func readSessions(r *reader) (s routing.SessionGroup, ok bool) {
	o := r.object(nil)
	s.Local, s.Remote = required(o, "local", addr), required(o, "remote", addr)
	s.Count, s.Own = int(required(o, "count", number(0, 1<<31))), field(o, "own", yes)
	return s, true
}

// readTexts reads an object of texts: of sysctls, for example, where a shell
// may have written numbers.
func readTexts(r *reader) map[string]string {
	out := map[string]string{}
	o := r.object(nil)
	for _, m := range o.members {
		out[m.key] = field(o, m.key, text)
	}
	return out
}

func readFlags(r *reader, names []string) map[string][]string {
	out, read := map[string][]string{}, map[string]func(){}
	for _, n := range names {
		read[n] = func() { out[n] = scalars(r, str) }
	}
	for _, m := range r.object(read).members {
		r.failIn(m.key, "unknown key")
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

func readNumbers(r *reader) routing.Numbers {
	o := r.object(nil)
	first := required(o, "table_first", number(256, 1<<32-16))
	return routing.Numbers{Protocol: uint8(required(o, "protocol", number(5, 255))),
		Group:      int(required(o, "group", number(1, 1<<31-1))),
		TableFirst: uint32(first),
		TableLast:  uint32(required(o, "table_last", number(first+15, 1<<32-1))),
		Base:       int(required(o, "priority", number(1, 32000))),
		Block:      routing.DefaultNumbers.Block}
}

func numbersDocOf(n routing.Numbers) *numbersDoc {
	if n == (routing.Numbers{}) {
		return nil
	}
	return &numbersDoc{n.Protocol, n.Group, n.TableFirst, n.TableLast, n.Base}
}
