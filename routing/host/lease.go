package host

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"lasthop/routing"
)

// grant is what a DHCP client received for a link.
type grant struct {
	link     string
	addr     netip.Addr
	gateways []netip.Addr
	expires  time.Time // zero: never, or not said
	client   string
}

// Leases collects the default gateways that the DHCP clients of this machine
// received, from the files that they keep below root ("/"; another directory in
// tests): systemd-networkd, NetworkManager, dhclient, dhcpcd. A lease counts
// while it has not expired and its address is on its link. Of several leases
// the one that lasts longest counts. A file that cannot be read or parsed gives
// no lease: leases help, and are never required.
func Leases(root string, links []routing.Link, addrs []routing.Addr,
	now time.Time) []routing.Lease {
	best := map[string]grant{}
	for _, g := range grants(root, links) {
		here := slices.ContainsFunc(addrs, func(a routing.Addr) bool {
			return a.Link == g.link && a.Prefix.Addr() == g.addr
		})
		if !here || len(g.gateways) == 0 || !g.expires.IsZero() && !now.Before(g.expires) {
			continue
		}
		if old, ok := best[g.link]; !ok || lasts(g, old) {
			best[g.link] = g
		}
	}
	var out []routing.Lease
	for _, link := range slices.Sorted(maps.Keys(best)) {
		for _, gateway := range best[link].gateways {
			out = append(out, routing.Lease{Link: link, Gateway: gateway,
				Client: best[link].client})
		}
	}
	return out
}

// lasts reports whether a lease outlasts another. A lease without an end is in
// a file of a client that deletes the file in time.
func lasts(a, b grant) bool {
	if a.expires.IsZero() || b.expires.IsZero() {
		return a.expires.IsZero() && !b.expires.IsZero()
	}
	return a.expires.After(b.expires)
}

// grants reads every lease file. The name of a file gives its link: by index,
// or by name after the last part of a pattern.
func grants(root string, links []routing.Link) []grant {
	byIndex, byName := map[string]string{}, map[string]string{}
	for _, l := range links {
		byIndex[strconv.Itoa(l.Index)], byName[l.Name] = l.Name, l.Name
	}
	var out []grant
	add := func(client, link string, list ...grant) {
		for _, g := range list {
			g.client, g.link = client, cmp.Or(g.link, link)
			out = append(out, g)
		}
	}
	eachFile(root, "run/systemd/netif/leases/*", func(name string, data []byte, _ time.Time) {
		add("systemd-networkd", byIndex[name], networkdLease(data))
	})
	eachFile(root, "var/lib/NetworkManager/internal-*.lease",
		func(name string, data []byte, _ time.Time) {
			add("NetworkManager", linkOfFile(name, links), networkdLease(data))
		})
	for _, pattern := range []string{"var/lib/dhcp/dhclient*.lease*",
		"var/lib/dhclient/*.lease*", "var/lib/NetworkManager/dhclient*.lease"} {
		eachFile(root, pattern, func(_ string, data []byte, _ time.Time) {
			add("dhclient", "", dhclientLeases(data)...)
		})
	}
	eachFile(root, "var/lib/dhcpcd/*.lease", func(name string, data []byte, written time.Time) {
		add("dhcpcd", linkOfFile(name, links), dhcpcdLease(data, written))
	})
	return out
}

// linkOfFile finds the link in internal-UUID-LINK.lease, LINK.lease or
// LINK-SSID.lease. Link names and SSIDs may have hyphens: of the links that
// fit, it takes the longest name.
func linkOfFile(name string, links []routing.Link) (link string) {
	name = strings.TrimSuffix(name, ".lease")
	for _, l := range links {
		fits := name == l.Name || strings.HasPrefix(name, l.Name+"-") ||
			strings.HasSuffix(name, "-"+l.Name)
		if fits && len(l.Name) > len(link) {
			link = l.Name
		}
	}
	return link
}

// networkdLease reads KEY=value lines as systemd's DHCP client saves them
// (dhcp_lease_save). Older NetworkManagers use this form, too; newer ones save
// the address alone, and have the gateway only in their routes. Classless
// routes are CLASSLESS_ROUTES, ROUTES before v250, of the form
// 0.0.0.0/0,10.0.1.1. networkd deletes the file when the lease ends.
func networkdLease(data []byte) grant {
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = value
		}
	}
	g := grant{}
	g.addr, _ = netip.ParseAddr(values["ADDRESS"])
	classless := cmp.Or(values["CLASSLESS_ROUTES"], values["ROUTES"])
	for _, route := range strings.Fields(classless) {
		if via, ok := strings.CutPrefix(route, "0.0.0.0/0,"); ok {
			g.gateways = appendGateway(g.gateways, via)
		}
	}
	if classless == "" { // else the client must ignore the routers: RFC 3442
		// they come in order of preference: RFC 2132, 3.5
		first, _, _ := strings.Cut(values["ROUTER"], " ")
		g.gateways = appendGateway(nil, first)
	}
	return g
}

func appendGateway(list []netip.Addr, s string) []netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() || a.IsUnspecified() { // 0.0.0.0 means on-link
		return list
	}
	return append(list, a)
}

var (
	leaseBlock   = regexp.MustCompile(`(?ms)^\s*lease\s*\{(.*?)^\s*\}`)
	leaseLink    = regexp.MustCompile(`(?m)^\s*interface\s+"([^"]+)"`)
	leaseAddr    = regexp.MustCompile(`(?m)^\s*fixed-address\s+([0-9.]+)`)
	leaseRouters = regexp.MustCompile(`(?m)^\s*option routers\s+([0-9.]+)`)
	leaseRoutes  = regexp.MustCompile(
		`(?m)^\s*option (?:rfc3442-|ms-)?classless-static-routes\s+([^;]+);`)
	leaseExpire = regexp.MustCompile(
		`(?m)^\s*expire\s+(?:epoch\s+(\d+)|\d\s+(\d+/\d+/\d+ \d+:\d+:\d+))`)
)

// dhclientLeases reads dhclient.leases(5). dhclient appends: the last block of
// a link is its newest.
func dhclientLeases(data []byte) []grant {
	var out []grant
	for _, m := range leaseBlock.FindAllSubmatch(data, -1) {
		block := m[1]
		g := grant{link: submatch(leaseLink, block), expires: dhclientExpiry(block)}
		g.addr, _ = netip.ParseAddr(submatch(leaseAddr, block))
		if routes := submatch(leaseRoutes, block); routes != "" {
			g.gateways = classlessDefaults(octets(routes))
		} else {
			g.gateways = appendGateway(nil, submatch(leaseRouters, block))
		}
		out = slices.DeleteFunc(out, func(x grant) bool { return x.link == g.link })
		out = append(out, g)
	}
	return out
}

func submatch(re *regexp.Regexp, b []byte) string {
	if m := re.FindSubmatch(b); m != nil {
		return string(m[1])
	}
	return ""
}

// dhclientExpiry reads `expire 4 2026/11/26 10:00:00;` (UTC) or `expire epoch
// 1795687200;`. Any other text, `never` included, means no end.
func dhclientExpiry(block []byte) time.Time {
	m := leaseExpire.FindSubmatch(block)
	if m == nil {
		return time.Time{}
	}
	if seconds, err := strconv.ParseInt(string(m[1]), 10, 64); err == nil {
		return time.Unix(seconds, 0)
	}
	t, _ := time.Parse("2006/01/02 15:04:05", string(m[2]))
	return t
}

// octets reads the forms in which dhclient prints option 121, as the
// distribution declares it: "0,10,0,1,1" (Debian) and "0 10.0.1.1" (Red Hat).
// It returns nothing for any other text.
func octets(s string) []byte {
	var out []byte
	for _, word := range strings.FieldsFunc(s,
		func(r rune) bool { return strings.ContainsRune(", .\t\n", r) }) {
		n, err := strconv.ParseUint(word, 10, 8)
		if err != nil {
			return nil
		}
		out = append(out, byte(n))
	}
	return out
}

// classlessDefaults reads option 121 (RFC 3442), a sequence of prefix length,
// significant octets and router, and returns the routers of default routes.
func classlessDefaults(b []byte) (gateways []netip.Addr) {
	for len(b) > 0 {
		size := 1 + (int(b[0])+7)/8
		if b[0] > 32 || len(b) < size+4 {
			return gateways
		}
		if b[0] == 0 {
			gateways = appendGateway(gateways,
				netip.AddrFrom4([4]byte(b[size:])).String())
		}
		b = b[size+4:]
	}
	return gateways
}

// Options of DHCP (RFC 2132, RFC 3442).
const (
	optionPad       = 0
	optionRouters   = 3
	optionLeaseTime = 51
	optionClassless = 121
	optionEnd       = 255
)

// dhcpcdLease reads a DHCP packet as dhcpcd stores it: 236 bytes (RFC 2131, 2),
// the magic cookie, options. The lease begins when the file was written.
func dhcpcdLease(b []byte, written time.Time) grant {
	const fixed, yourAddr = 236, 16
	if len(b) < fixed+4 || !bytes.Equal(b[fixed:fixed+4], []byte{99, 130, 83, 99}) {
		return grant{}
	}
	g := grant{addr: netip.AddrFrom4([4]byte(b[yourAddr:]))}
	o := options(b[fixed+4:])
	// all ones: for ever
	if t := o[optionLeaseTime]; len(t) == 4 && !bytes.Equal(t, []byte{255, 255, 255, 255}) {
		seconds := int64(t[0])<<24 | int64(t[1])<<16 | int64(t[2])<<8 | int64(t[3])
		g.expires = written.Add(time.Duration(seconds) * time.Second)
	}
	if routes, ok := o[optionClassless]; ok {
		g.gateways = classlessDefaults(routes)
	} else if routers := o[optionRouters]; len(routers) >= 4 {
		g.gateways = appendGateway(nil, netip.AddrFrom4([4]byte(routers)).String())
	}
	return g
}

// options splits DHCP options. It joins an option that comes in parts (RFC
// 3396).
func options(b []byte) map[byte][]byte {
	out := map[byte][]byte{}
	for len(b) > 0 && b[0] != optionEnd {
		if b[0] == optionPad {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return out
		}
		out[b[0]] = append(out[b[0]], b[2:2+int(b[1])]...)
		b = b[2+int(b[1]):]
	}
	return out
}
