package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"lasthop/routing"
)

// This file has the shapes of iproute2's JSON, object by object, both ways.

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

func (d linkDoc) link() (routing.Link, error) {
	l := routing.Link{Index: d.Index, Name: d.Name, MTU: d.MTU, Master: d.Master, Loopback: slices.Contains(d.Flags, "LOOPBACK"),
		Up: slices.Contains(d.Flags, "UP"), Carrier: slices.Contains(d.Flags, "LOWER_UP"), PointToPoint: slices.Contains(d.Flags, "POINTOPOINT")}
	if l.Name == "" {
		return l, errors.New("no ifname")
	}
	group, err := numberOr(d.Group, "default", 0, 31)
	if err != nil {
		return l, fmt.Errorf("group: %w", err)
	}
	l.Group = int(group)
	if d.Info == nil {
		return l, nil
	}
	l.Kind = d.Info.Kind
	if l.Kind != "vrf" || d.Info.Data == nil {
		return l, nil
	}
	table, err := numberOr(d.Info.Data.Table, "", 0, 32)
	l.Table = uint32(table)
	return l, err
}

// numberOr reads a number of so many bits; the word, and nothing, stand for a number too. Other words are names in a file of
// the captured machine.
func numberOr(t text, word text, value uint64, bits int) (uint64, error) {
	if t == "" || t == word {
		return value, nil
	}
	n, err := strconv.ParseUint(string(t), 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is no number: capture with ip -N", t)
	}
	return n, nil
}

func linkDocOf(l routing.Link) linkDoc {
	d := linkDoc{Index: l.Index, Name: l.Name, MTU: l.MTU, Master: l.Master, Group: text(strconv.Itoa(l.Group)), Flags: []string{}}
	for _, f := range []struct {
		on   bool
		name string
	}{{l.Loopback, "LOOPBACK"}, {l.PointToPoint, "POINTOPOINT"}, {l.Up, "UP"}, {l.Carrier, "LOWER_UP"}} {
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

func (d addrDoc) addTo(h *routing.Host) error {
	if d.Name == "" {
		return errors.New("no ifname")
	}
	for _, x := range d.Addrs {
		if x.Family != "inet" && x.Family != "inet6" {
			continue
		}
		local, err := parseAddr(x.Local)
		if err != nil {
			return err
		}
		scope, err := scopeOf(x.Scope)
		if err != nil {
			return fmt.Errorf("scope: %w", err)
		}
		a := routing.Addr{Link: d.Name, Prefix: netip.PrefixFrom(local, x.Bits), Scope: scope, Temporary: bool(x.Temporary),
			NoPrefix: bool(x.NoPrefix), Tentative: bool(x.Tentative || x.DADFailed)}
		if x.Peer != "" {
			peer, err := parseAddr(x.Peer)
			if err != nil {
				return err
			}
			a.Prefix, a.Peer = netip.PrefixFrom(local, local.BitLen()), netip.PrefixFrom(peer, x.Bits)
		}
		if !a.Prefix.IsValid() || a.Peer != (netip.Prefix{}) && !a.Peer.IsValid() {
			return fmt.Errorf("%s/%d is no address with prefix length", x.Local, x.Bits)
		}
		h.Addrs = append(h.Addrs, a)
	}
	return nil
}

func scopeOf(s text) (uint8, error) {
	named := map[text]uint8{"global": 0, "universe": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
	if n, ok := named[s]; ok {
		return n, nil
	}
	n, err := numberOr(s, "", 0, 8)
	return uint8(n), err
}

func addrDocsOf(h routing.Host) []addrDoc {
	out := []addrDoc{}
	for _, a := range h.Addrs {
		x := addrInfoDoc{Family: familyWord(a.Prefix.Addr()), Local: a.Prefix.Addr().String(), Bits: a.Prefix.Bits(), Scope: text(strconv.Itoa(int(a.Scope))),
			Temporary: flag(a.Temporary), NoPrefix: flag(a.NoPrefix), Tentative: flag(a.Tentative)}
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

func (d neighDoc) neigh() (routing.Neigh, error) {
	addr, err := parseAddr(d.Dst)
	return routing.Neigh{Link: d.Dev, Addr: addr, MAC: d.MAC, Router: bool(d.Router), State: strings.Join(d.State, ",")}, err
}

func neighDocOf(n routing.Neigh) neighDoc {
	return neighDoc{Dst: n.Addr.String(), Dev: n.Link, MAC: n.MAC, Router: flag(n.Router), State: []string{n.State}}
}

type leaseDoc struct {
	Dev     string `json:"dev"`
	Gateway string `json:"gateway"`
	Client  string `json:"client"`
}

func (d leaseDoc) lease() (routing.Lease, error) {
	addr, err := parseAddr(d.Gateway)
	return routing.Lease{Link: d.Dev, Gateway: addr, Client: d.Client}, err
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

func (d listenDoc) listener() (routing.Listener, error) {
	addr, err := parseAddr(d.Address)
	if t := routing.Transport(d.Transport); err == nil && t != routing.TCP && t != routing.UDP {
		err = fmt.Errorf("transport %q, want tcp or udp", d.Transport)
	}
	return routing.Listener{Addr: addr, Ports: routing.PortRange{First: d.First, Last: d.Last}, Transport: routing.Transport(d.Transport),
		Context: d.Context, Listen: d.Listen, Origins: d.Origins, Servers: d.Servers}, err
}

func listenDocOf(l routing.Listener) listenDoc {
	return listenDoc{l.Addr.String(), l.Ports.First, l.Ports.Last, string(l.Transport), l.Context, l.Listen, l.Origins, l.Servers}
}

type bindDoc struct {
	Address     string   `json:"address,omitempty"`
	Transparent bool     `json:"transparent,omitempty"`
	Upstreams   []string `json:"upstreams,omitempty"`
	Origin      string   `json:"origin,omitempty"`
}

func (d bindDoc) bind() (routing.Bind, error) {
	b := routing.Bind{Transparent: d.Transparent, Origin: d.Origin}
	var err error
	if d.Address != "" {
		if b.Addr, err = parseAddr(d.Address); err != nil {
			return b, err
		}
	}
	for _, s := range d.Upstreams {
		u, err := parseAddr(s)
		if err != nil {
			return b, err
		}
		b.Upstreams = append(b.Upstreams, u)
	}
	return b, nil
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
