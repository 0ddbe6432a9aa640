package host

import (
	"bytes"
	"cmp"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"lasthop/routing"
)

// Leases collects the default gateways that the DHCP clients of this machine were given: systemd-networkd, NetworkManager,
// dhclient and dhcpcd, in that order, below root ("/"; another directory in tests). links gives the names of link indexes. A
// file that cannot be read or understood says nothing; leases help, and are never required.
func Leases(root string, links map[int]string) []routing.Lease {
	var out []routing.Lease
	add := func(client, link string, gateways []netip.Addr) {
		for _, g := range gateways {
			out = append(out, routing.Lease{Link: link, Gateway: g, Client: client})
		}
	}
	eachFile(root, "run/systemd/netif/leases/*", func(name string, data []byte) {
		add("systemd-networkd", linkByIndex(links, name), keyedGateways(data, "ROUTER", "ROUTES"))
	})
	eachFile(root, "var/lib/NetworkManager/internal-*.lease", func(name string, data []byte) {
		// internal-UUID-LINK.lease
		link := strings.TrimSuffix(name, ".lease")
		if len(link) > len("internal-")+37 {
			add("NetworkManager", link[len("internal-")+37:], keyedGateways(data, "ROUTER", "ROUTES"))
		}
	})
	for _, dir := range []string{"var/lib/dhcp", "var/lib/dhclient", "var/lib/NetworkManager"} {
		eachFile(root, dir+"/dhclient*.lease*", func(_ string, data []byte) {
			for _, l := range dhclientLeases(data, time.Now()) {
				add("dhclient", l.link, l.gateways)
			}
		})
	}
	eachFile(root, "var/lib/dhcpcd/*.lease", func(name string, data []byte) {
		link, _, _ := strings.Cut(strings.TrimSuffix(name, ".lease"), "-") // LINK.lease or LINK-SSID.lease
		add("dhcpcd", link, packetGateways(data))
	})
	slices.SortStableFunc(out, func(a, b routing.Lease) int { return cmp.Compare(a.Link, b.Link) })
	return slices.Compact(out)
}

func eachFile(root, pattern string, f func(name string, data []byte)) {
	files, _ := filepath.Glob(filepath.Join(root, pattern)) // only a bad pattern is an error
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil {
			f(filepath.Base(file), data)
		}
	}
}

func linkByIndex(links map[int]string, name string) string {
	index, err := strconv.Atoi(name)
	if err != nil {
		return ""
	}
	return links[index]
}

// keyedGateways reads KEY=value lines as systemd's DHCP client writes them (sd_dhcp_lease_save), which is NetworkManager's
// internal one too: ROUTES=0.0.0.0/0,10.0.1.1 …, which wins (RFC 3442), and ROUTER=10.0.1.1 ….
func keyedGateways(data []byte, routerKey, routesKey string) []netip.Addr {
	values := map[string]string{}
	for _, line := range strings.Split(string(data), "\n") {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = strings.Trim(value, `"`)
		}
	}
	var classless []netip.Addr
	for _, route := range strings.Fields(values[routesKey]) {
		if via, ok := strings.CutPrefix(route, "0.0.0.0/0,"); ok {
			classless = appendAddr(classless, via)
		}
	}
	if values[routesKey] != "" {
		return classless
	}
	var routers []netip.Addr
	for _, s := range strings.Fields(values[routerKey]) {
		routers = appendAddr(routers, s)
	}
	return routers[:min(len(routers), 1)]
}

func appendAddr(list []netip.Addr, s string) []netip.Addr {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() && !a.IsUnspecified() {
		return append(list, a)
	}
	return list
}

type linkGateways struct {
	link     string
	gateways []netip.Addr
}

var (
	leaseBlock   = regexp.MustCompile(`(?s)lease\s*\{(.*?)\n\s*\}`)
	leaseLink    = regexp.MustCompile(`interface\s+"([^"]+)"`)
	leaseRouters = regexp.MustCompile(`option routers\s+([^;]+);`)
	leaseRoutes  = regexp.MustCompile(`option (?:rfc3442-|ms-)?classless-static-routes\s+([^;]+);`)
	leaseExpire  = regexp.MustCompile(`expire\s+(?:epoch\s+(\d+)|\d\s+(\d+/\d+/\d+ \d+:\d+:\d+)|(never))`)
)

// dhclientLeases reads dhclient.leases(5): the last block of each link counts, if it has not expired.
func dhclientLeases(data []byte, now time.Time) []linkGateways {
	var out []linkGateways
	for _, block := range leaseBlock.FindAllSubmatch(data, -1) {
		link := leaseLink.FindSubmatch(block[1])
		if link == nil {
			continue
		}
		l := linkGateways{link: string(link[1])}
		if !leaseExpired(block[1], now) {
			l.gateways = dhclientGateways(block[1])
		}
		out = slices.DeleteFunc(out, func(x linkGateways) bool { return x.link == l.link })
		out = append(out, l)
	}
	return out
}

func leaseExpired(block []byte, now time.Time) bool {
	m := leaseExpire.FindSubmatch(block)
	switch {
	case m == nil || len(m[3]) > 0:
		return false
	case len(m[1]) > 0:
		seconds, err := strconv.ParseInt(string(m[1]), 10, 64)
		return err == nil && now.Unix() > seconds
	}
	t, err := time.ParseInLocation("2006/01/02 15:04:05", string(m[2]), time.UTC)
	return err == nil && now.After(t)
}

func dhclientGateways(block []byte) []netip.Addr {
	if m := leaseRoutes.FindSubmatch(block); m != nil {
		var raw []byte
		for _, s := range strings.FieldsFunc(string(m[1]), func(r rune) bool { return r == ',' || r == ' ' }) {
			n, err := strconv.ParseUint(s, 10, 8)
			if err != nil {
				return nil
			}
			raw = append(raw, byte(n))
		}
		return classlessDefaults(raw)
	}
	m := leaseRouters.FindSubmatch(block)
	if m == nil {
		return nil
	}
	first, _, _ := strings.Cut(string(m[1]), ",")
	return appendAddr(nil, strings.TrimSpace(first))
}

// classlessDefaults reads option 121 (RFC 3442): length of the prefix, its significant octets, router.
func classlessDefaults(b []byte) (gateways []netip.Addr) {
	for len(b) > 0 {
		octets := (int(b[0]) + 7) / 8
		if b[0] > 32 || len(b) < 1+octets+4 {
			return gateways
		}
		if b[0] == 0 {
			gateways = appendAddr(gateways, netip.AddrFrom4([4]byte(b[1+octets:][:4])).String())
		}
		b = b[1+octets+4:]
	}
	return gateways
}

// packetGateways reads a DHCP packet as dhcpcd stores it (RFC 2131: 236 bytes, the magic cookie, options).
func packetGateways(b []byte) []netip.Addr {
	const fixed = 236
	if len(b) < fixed+4 || !bytes.Equal(b[fixed:fixed+4], []byte{99, 130, 83, 99}) {
		return nil
	}
	var routers []netip.Addr
	for b = b[fixed+4:]; len(b) > 0; {
		switch code := b[0]; {
		case code == 0:
			b = b[1:]
			continue
		case code == 255 || len(b) < 2 || len(b) < 2+int(b[1]):
			return routers
		case code == 121:
			return classlessDefaults(b[2 : 2+int(b[1])])
		case code == 3 && b[1] >= 4:
			routers = appendAddr(nil, netip.AddrFrom4([4]byte(b[2:6])).String())
		}
		b = b[2+int(b[1]):]
	}
	return routers
}
