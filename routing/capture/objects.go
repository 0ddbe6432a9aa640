package capture

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"

	"github.com/go-json-experiment/json/jsontext"
)

// This file has the objects of a capture, both ways; iproute2's objects have
// iproute2's own shapes.

type linkDoc struct {
	Index  int      `json:"ifindex" is:"0..2147483647"`
	Name   string   `json:"ifname" is:"name" need:"if any"`
	Flags  []string `json:"flags"`
	MTU    int      `json:"mtu" is:"0..4294967295"`
	Master string   `json:"master,omitempty" is:"name"`
	Parent string   `json:"link,omitempty" is:"name"`
	Group  string   `json:"group" is:"word"`
	Info   linkInfo `json:"linkinfo,omitzero"`
}

type linkInfo struct {
	Kind string   `json:"info_kind,omitempty"`
	Data linkData `json:"info_data,omitzero"`
}

type linkData struct {
	Table string `json:"table,omitempty" is:"word"` // of a vrf
}

func (d linkDoc) link(r *reader) (routing.Link, bool) {
	has := func(flag string) bool { return slices.Contains(d.Flags, flag) }
	l := routing.Link{Index: d.Index, Name: d.Name, Kind: d.Info.Kind, MTU: d.MTU,
		Master: d.Master, Group: int(r.numeral("group", d.Group, "default", 31)),
		Loopback: has("LOOPBACK"), PointToPoint: has("POINTOPOINT"), Up: has("UP"),
		Carrier: has("LOWER_UP")}
	if l.HasParent() { // of other kinds, a veth's peer
		l.Parent = d.Parent
	}
	if l.Kind == "vrf" {
		l.Table = uint32(r.numeral("linkinfo/info_data/table", d.Info.Data.Table, "", 32))
	}
	return l, d.Name != ""
}

func linkDocOf(l routing.Link) linkDoc {
	d := linkDoc{Index: l.Index, Name: l.Name, MTU: l.MTU, Master: l.Master, Parent: l.Parent,
		Group: strconv.Itoa(l.Group), Info: linkInfo{Kind: l.Kind},
		Flags: set(option{l.Loopback, "LOOPBACK"}, option{l.PointToPoint, "POINTOPOINT"},
			option{l.Up, "UP"}, option{l.Carrier, "LOWER_UP"})}
	if l.Kind == "vrf" {
		d.Info.Data.Table = digitsOf(l.Table)
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
	Name  string        `json:"ifname" is:"name" need:"if any"`
	Addrs []addrInfoDoc `json:"addr_info"`
}

type addrInfoDoc struct {
	Family    string `json:"family" need:"always"`
	Local     string `json:"local" is:"word" need:"always"`
	Peer      string `json:"address,omitempty" is:"word"`
	Bits      int    `json:"prefixlen" is:"0..128" need:"always"`
	Scope     string `json:"scope" is:"word"`
	Temporary bool   `json:"temporary,omitempty" is:"yes"`
	NoPrefix  bool   `json:"noprefixroute,omitempty" is:"yes"`
	Tentative bool   `json:"tentative,omitempty" is:"yes"`
	DADFailed bool   `json:"dadfailed,omitempty" is:"yes"`
}

var (
	families = map[string]routing.Family{"inet": routing.IPv4, "inet6": routing.IPv6}
	scopes   = map[string]uint8{"global": 0, "universe": 0, "site": 200, "link": 253,
		"host": 254, "nowhere": 255}
)

func (d addrDoc) addrs(r *reader) ([]routing.Addr, bool) {
	list := all(r, "addr_info", d.Addrs, addrInfoDoc.addr)
	for i := range list {
		list[i].Link = d.Name
	}
	return list, true
}

// addr skips addresses of families other than IPv4 and IPv6.
func (d addrInfoDoc) addr(r *reader) (a routing.Addr, ok bool) {
	family, ok := families[d.Family]
	if !ok {
		return a, false
	}
	local, peer := quoted(d.Local), quoted(d.Peer)
	r.check("local", local, d.Family)
	r.check("prefixlen", number(d.Bits), fmt.Sprintf("0..%d", family.Bits()))
	a = routing.Addr{Prefix: netip.PrefixFrom(local.addr(), d.Bits), Temporary: d.Temporary,
		NoPrefix: d.NoPrefix, Tentative: d.Tentative || d.DADFailed}
	if a.Scope, ok = scopes[d.Scope]; !ok {
		a.Scope = uint8(r.numeral("scope", d.Scope, "", 8))
	}
	if d.Peer != "" {
		r.check("address", peer, d.Family)
		a.Prefix = netip.PrefixFrom(local.addr(), family.Bits())
		a.Peer = netip.PrefixFrom(peer.addr(), d.Bits)
	}
	return a, true
}

func addrDocsOf(addrs []routing.Addr) []addrDoc {
	out := []addrDoc{}
	for _, a := range addrs {
		x := addrInfoDoc{Family: familyWord(a.Prefix.Addr()),
			Local: a.Prefix.Addr().String(), Bits: a.Prefix.Bits(),
			Scope: digitsOf(a.Scope), Temporary: a.Temporary, NoPrefix: a.NoPrefix,
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
	Dst    netip.Addr `json:"dst" is:"address" need:"if any"`
	Dev    string     `json:"dev" is:"name" need:"if any"`
	MAC    string     `json:"lladdr,omitempty"`
	Router bool       `json:"router,omitempty" is:"yes"`
	State  []string   `json:"state"`
}

func (d neighDoc) neigh(*reader) (routing.Neigh, bool) {
	return routing.Neigh{Link: d.Dev, Addr: d.Dst, MAC: d.MAC, Router: d.Router,
		State: strings.Join(d.State, ",")}, d.Dev != ""
}

func neighDocOf(n routing.Neigh) neighDoc {
	return neighDoc{n.Addr, n.Link, n.MAC, n.Router, []string{n.State}}
}

type leaseDoc struct {
	Link    string     `json:"dev" is:"name" need:"always"`
	Gateway netip.Addr `json:"gateway" is:"address" need:"always"`
	Client  string     `json:"client"`
}

func (d leaseDoc) lease() routing.Lease { return routing.Lease(d) }

func leaseDocOf(l routing.Lease) leaseDoc { return leaseDoc(l) }

type groupDoc struct {
	Link  string `json:"dev" is:"name" need:"always"`
	Group int    `json:"group" is:"0..2147483647" need:"always"`
}

func (d groupDoc) group() routing.LinkGroup { return routing.LinkGroup(d) }

func groupDocOf(g routing.LinkGroup) groupDoc { return groupDoc(g) }

// rulesetDoc is what the packet filter does with forwarded packets of a family:
// the first rule that looks them up with iif lo, or why that is not known.
type rulesetDoc struct {
	Family string `json:"family" is:"family" need:"always"`
	Lookup string `json:"lookup,omitempty"`
	Unread string `json:"unread,omitempty"`
}

func (d rulesetDoc) ruleset() routing.Ruleset {
	return routing.Ruleset{Family: families[d.Family], Lookup: d.Lookup, Unread: d.Unread}
}

func rulesetDocOf(s routing.Ruleset) rulesetDoc {
	family := "inet"
	if s.Family == routing.IPv6 {
		family = "inet6"
	}
	return rulesetDoc{family, s.Lookup, s.Unread}
}

type filterDoc struct {
	Link   string `json:"dev" is:"name" need:"always"`
	Pref   uint16 `json:"pref,omitempty" is:"0..65535"`
	Handle uint32 `json:"handle,omitempty" is:"0..4294967295"`
	Kind   string `json:"kind" is:"word" need:"always"`
	Name   string `json:"name,omitempty"`
}

func (d filterDoc) filter() routing.Filter { return routing.Filter(d) }

func filterDocOf(f routing.Filter) filterDoc { return filterDoc(f) }

// wantedDoc is a listener that lasthop's programs learn for. Port 0 is each
// port without a listener.
type wantedDoc struct {
	Addr      netip.Addr        `json:"address" is:"address" need:"always"`
	Port      uint16            `json:"port,omitempty" is:"0..65535"`
	Transport routing.Transport `json:"transport" is:"learned" need:"always"`
}

func (d wantedDoc) wanted() routing.Wanted {
	d.Addr = d.Addr.Unmap()
	return routing.Wanted(d)
}

func wantedDocOf(w routing.Wanted) wantedDoc { return wantedDoc(w) }

// supportDoc says whether the host supports the mode last-hop. A capture
// without it leaves this unknown.
type supportDoc struct {
	Tag     string `json:"tag,omitempty"`
	Missing string `json:"missing,omitempty"`
	Known   bool   `json:"known" is:"yes"`
}

func (d supportDoc) support() routing.LastHopSupport { return routing.LastHopSupport(d) }

func supportDocOf(s routing.LastHopSupport) supportDoc { return supportDoc(s) }

// ports checks the ports of a listener, or of those that are translated.
func (r *reader) ports(first, last uint16) {
	if last < first {
		r.fail("last_port", "want a port from %d on, not %d", first, last)
	}
}

type listenDoc struct {
	Address   netip.Addr        `json:"address" is:"address" need:"always"`
	First     uint16            `json:"first_port" is:"0..65535" need:"always"`
	Last      uint16            `json:"last_port" is:"0..65535" need:"always"`
	Transport routing.Transport `json:"transport" is:"transport" need:"always"`
	Context   string            `json:"context,omitempty"`
	Listen    string            `json:"listen,omitempty"`
	Origins   []string          `json:"origins,omitempty"`
	Servers   []string          `json:"servers,omitempty"`

	MoreOrigins int `json:"more_origins,omitempty" is:"0..2147483647"`
	MoreServers int `json:"more_servers,omitempty" is:"0..2147483647"`
}

func (d listenDoc) listener(r *reader) (routing.Listener, bool) {
	r.ports(d.First, d.Last)
	return routing.Listener{Addr: d.Address.Unmap(),
		Ports: routing.PortRange{First: d.First, Last: d.Last}, Transport: d.Transport,
		Context: d.Context, Listen: d.Listen, Origins: d.Origins,
		Servers: d.Servers, MoreOrigins: d.MoreOrigins, MoreServers: d.MoreServers}, true
}

func listenDocOf(l routing.Listener) listenDoc {
	return listenDoc{l.Addr, l.Ports.First, l.Ports.Last, l.Transport, l.Context,
		l.Listen, l.Origins, l.Servers, l.MoreOrigins, l.MoreServers}
}

type bindDoc struct {
	Addr        netip.Addr   `json:"address,omitzero" is:"address"`
	Transparent bool         `json:"transparent,omitempty" is:"yes"`
	Upstreams   []netip.Addr `json:"upstreams,omitempty" is:"address"`
	Origin      string       `json:"origin,omitempty"`
}

func (d bindDoc) bind() routing.Bind {
	d.Addr = d.Addr.Unmap()
	return routing.Bind(d)
}

func bindDocOf(b routing.Bind) bindDoc { return bindDoc(b) }

type warningDoc struct {
	Code    string `json:"code" need:"always"`
	Message string `json:"message" need:"always"`
	Hint    string `json:"hint,omitempty"`
	Origin  string `json:"origin,omitempty"`
}

// finding is a finding about the configuration.
func (d warningDoc) finding() routing.Finding {
	return routing.NginxWarning(d.Code, d.Message, d.Hint, d.Origin)
}

func warningDocOf(f routing.Finding) warningDoc {
	return warningDoc{string(f.Code), f.Message, f.Hint, f.Origin}
}

type dnatDoc struct {
	In        string         `json:"in,omitempty"`
	Addrs     []netip.Prefix `json:"addresses,omitempty" is:"prefix"`
	Transport string         `json:"transport,omitempty"`
	First     uint16         `json:"first_port" is:"0..65535" need:"always"`
	Last      uint16         `json:"last_port" is:"0..65535" need:"always"`
	To        netip.Addr     `json:"to,omitzero" is:"address"`
	Redirect  bool           `json:"redirect,omitempty" is:"yes"`
	Origin    string         `json:"origin"`
}

func (d dnatDoc) dnat(r *reader) (routing.DNAT, bool) {
	r.ports(d.First, d.Last)
	return routing.DNAT(d), true
}

func dnatDocOf(d routing.DNAT) dnatDoc { return dnatDoc(d) }

type sessionsDoc struct {
	Local  netip.Addr `json:"local" is:"address" need:"always"`
	Remote netip.Addr `json:"remote" is:"address" need:"always"`
	Count  int        `json:"count" is:"0..2147483648" need:"always"`
	Own    bool       `json:"own,omitempty" is:"yes"`
}

func (d sessionsDoc) group() routing.SessionGroup { return routing.SessionGroup(d) }

func sessionsDocOf(s routing.SessionGroup) sessionsDoc { return sessionsDoc(s) }

// flags are those that the host was read with, or its settings.
func (r *reader) flags(key string, flags map[string][]string, names []string) map[string][]string {
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if !slices.Contains(names, name) {
			r.failAt(jsontext.Pointer("/"+key).AppendToken(name),
				errUnknown)
		}
	}
	return flags
}

// numbersDoc is routing.Numbers as lasthop.yaml has them.
type numbersDoc struct {
	Protocol   uint8  `json:"protocol" is:"5..255" need:"always"`
	Group      int    `json:"group" is:"1..2147483647" need:"always"`
	TableFirst uint32 `json:"table_first" is:"256..4294967280" need:"always"`
	TableLast  uint32 `json:"table_last" is:"0..4294967295" need:"always"`
	Base       int    `json:"priority" is:"1..32000" need:"always"`
}

func (d numbersDoc) numbers(r *reader) routing.Numbers {
	if d == (numbersDoc{}) {
		return routing.Numbers{}
	}
	r.path = "/numbers"
	r.check("table_last", number(int(d.TableLast)),
		fmt.Sprintf("%d..%d", int64(d.TableFirst)+15, uint32(1<<32-1)))
	return routing.Numbers{Protocol: d.Protocol, Group: d.Group, TableFirst: d.TableFirst,
		TableLast: d.TableLast, Base: d.Base, Block: routing.DefaultNumbers.Block}
}

func numbersDocOf(n routing.Numbers) numbersDoc {
	return numbersDoc{n.Protocol, n.Group, n.TableFirst, n.TableLast, n.Base}
}
