package host

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lasthop/routing"

	"github.com/google/go-cmp/cmp"
)

// noon is the time of the tests; dhcpcd's files were written an hour before.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// packet is a DHCP packet for 10.0.1.10 with the options given.
func packet(options ...byte) string {
	b := make([]byte, 236, 300)
	copy(b[16:], []byte{10, 0, 1, 10})
	b = append(b, 99, 130, 83, 99)
	return string(append(append(b, options...), 255))
}

// debian is a block of dhclient.leases with further statements.
func debian(link, statements string) string {
	return "lease {\n  interface \"" + link + "\";\n  fixed-address 10.0.1.10;\n" +
		"  option subnet-mask 255.255.255.0;\n" +
		statements + "  renew 1 2026/06/01 13:00:00;\n}\n"
}

const networkd = "# This is private data. Do not parse.\nADDRESS=10.0.1.10\n" +
	"NETMASK=255.255.255.0\n"

var leaseTests = []struct {
	name  string
	files map[string]string
	want  string // "LINK GATEWAY CLIENT", one a line
}{
	{"none", nil, ""},
	{"networkd, first router", map[string]string{"run/systemd/netif/leases/3": networkd + "ROUTER=10.0.1.1 10.0.1.2\n"}, "eth1 10.0.1.1 systemd-networkd"},
	{"networkd, classless route wins", map[string]string{"run/systemd/netif/leases/3": networkd +
		"ROUTER=10.0.1.1\nCLASSLESS_ROUTES=10.9.0.0/16,10.0.1.8 0.0.0.0/0,10.0.1.254\n"}, "eth1 10.0.1.254 systemd-networkd"},
	{"networkd before v250", map[string]string{"run/systemd/netif/leases/3": networkd + "ROUTES=0.0.0.0/0,10.0.1.254\n"}, "eth1 10.0.1.254 systemd-networkd"},
	{"networkd, classless routes without default", map[string]string{"run/systemd/netif/leases/3": networkd +
		"ROUTER=10.0.1.1\nCLASSLESS_ROUTES=10.9.0.0/16,10.0.1.8\n"}, ""},
	{"networkd, unknown link", map[string]string{"run/systemd/netif/leases/9": networkd + "ROUTER=10.0.1.1\n"}, ""},
	{"networkd, on-link default", map[string]string{"run/systemd/netif/leases/3": networkd + "ROUTES=0.0.0.0/0,0.0.0.0\n"}, ""},
	{"address has left", map[string]string{"run/systemd/netif/leases/3": "ADDRESS=10.0.1.77\nROUTER=10.0.1.1\n"}, ""},
	{"NetworkManager", map[string]string{"var/lib/NetworkManager/internal-5ad4f0b1-4f7b-4a0e-b8f6-6a2bd8a6d0a5-eth1.lease": networkd + "ROUTER=10.0.1.1\n"},
		"eth1 10.0.1.1 NetworkManager"},
	{"NetworkManager, link with hyphens", map[string]string{"var/lib/NetworkManager/internal-5ad4f0b1-4f7b-4a0e-b8f6-6a2bd8a6d0a5-br-lan.lease": "ADDRESS=10.0.2.10\nROUTER=10.0.2.1\n"},
		"br-lan 10.0.2.1 NetworkManager"},
	{"NetworkManager, address alone", map[string]string{"var/lib/NetworkManager/internal-5ad4f0b1-4f7b-4a0e-b8f6-6a2bd8a6d0a5-eth1.lease": "ADDRESS=10.0.1.10\n"}, ""},
	{"dhclient, last block wins", map[string]string{"var/lib/dhcp/dhclient.leases": debian("eth1", "  option routers 10.0.1.1;\n  expire 1 2026/06/01 20:00:00;\n") +
		debian("eth1", "  option routers 10.0.1.2, 10.0.1.3;\n  expire 1 2026/06/01 18:00:00;\n")}, "eth1 10.0.1.2 dhclient"},
	{"dhclient, expired", map[string]string{"var/lib/dhcp/dhclient.leases": debian("eth1", "  option routers 10.0.1.1;\n  expire 1 2026/06/01 11:00:00;\n")}, ""},
	{"dhclient, epoch", map[string]string{"var/lib/dhcp/dhclient.leases": debian("eth1", "  option routers 10.0.1.1;\n  expire epoch 1780300800; # Mon Jun  1\n")}, ""},
	{"dhclient, never", map[string]string{"var/lib/dhcp/dhclient.leases": debian("eth1", "  option routers 10.0.1.1;\n  expire never;\n")}, "eth1 10.0.1.1 dhclient"},
	{"dhclient, rfc3442 of Debian", map[string]string{"var/lib/dhcp/dhclient.eth1.leases": debian("eth1",
		"  option routers 10.0.1.1;\n  option rfc3442-classless-static-routes 24,10,9,0,10,0,1,8,0,10,0,1,254;\n")}, "eth1 10.0.1.254 dhclient"},
	{"dhclient, rfc3442 of Red Hat", map[string]string{"var/lib/dhclient/dhclient--eth1.lease": debian("eth1",
		"  option routers 10.0.1.1;\n  option classless-static-routes 32.169.254.169.254 10.0.1.8,0 10.0.1.254;\n")}, "eth1 10.0.1.254 dhclient"},
	{"dhclient, two files: the one that lasts", map[string]string{
		"var/lib/dhcp/dhclient.leases":      debian("eth1", "  option routers 10.0.1.1;\n  expire 1 2026/06/01 18:00:00;\n"),
		"var/lib/dhcp/dhclient.eth1.leases": debian("eth1", "  option routers 10.0.1.2;\n  expire 1 2026/06/01 17:00:00;\n")}, "eth1 10.0.1.1 dhclient"},
	{"dhclient, text in a string", map[string]string{"var/lib/dhcp/dhclient.leases": debian("eth1",
		"  option domain-name \"option routers 6.6.6.6; }\";\n  option routers 10.0.1.1;\n")}, "eth1 10.0.1.1 dhclient"},
	{"dhclient, truncated", map[string]string{"var/lib/dhcp/dhclient.leases": "lease {\n  interface \"eth1\";\n  option routers 10.0.1.1;\n"}, ""},
	{"dhcpcd", map[string]string{"var/lib/dhcpcd/eth1.lease": packet(53, 1, 5, 0, 51, 4, 0, 1, 0, 0, 3, 8, 10, 0, 1, 1, 10, 0, 1, 2)}, "eth1 10.0.1.1 dhcpcd"},
	{"dhcpcd, classless routes in two parts", map[string]string{"var/lib/dhcpcd/eth1-Some-SSID.lease": packet(3, 4, 10, 0, 1, 1, 121, 3, 0, 10, 0, 121, 2, 1, 254)}, "eth1 10.0.1.254 dhcpcd"},
	{"dhcpcd, expired", map[string]string{"var/lib/dhcpcd/eth1.lease": packet(51, 4, 0, 0, 14, 16, 3, 4, 10, 0, 1, 1)}, ""},
	{"dhcpcd, for ever", map[string]string{"var/lib/dhcpcd/eth1.lease": packet(51, 4, 255, 255, 255, 255, 3, 4, 10, 0, 1, 1)}, "eth1 10.0.1.1 dhcpcd"},
	{"dhcpcd, no packet", map[string]string{"var/lib/dhcpcd/eth1.lease": "10.0.1.1"}, ""},
	{"dhcpcd, option too long", map[string]string{"var/lib/dhcpcd/eth1.lease": packet(3, 200, 10, 0, 1, 1)}, ""},
}

func TestLeases(t *testing.T) {
	for _, tt := range leaseTests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				write(t, filepath.Join(root, name), text)
			}
			links := []routing.Link{{Index: 1, Name: "lo"}, {Index: 3, Name: "eth1"},
				{Index: 4, Name: "br-lan"}, {Index: 5, Name: "lan"}}
			addrs := []routing.Addr{
				{Link: "eth1", Prefix: netip.MustParsePrefix("10.0.1.10/24")},
				{Link: "br-lan", Prefix: netip.MustParsePrefix("10.0.2.10/24")}}
			var got []string
			for _, l := range Leases(root, links, addrs, noon) {
				got = append(got, l.Link+" "+l.Gateway.String()+" "+l.Client)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, noon, noon.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// FuzzLeases: other programs, and networks, write the files.
func FuzzLeases(f *testing.F) {
	f.Add([]byte(packet(3, 4, 10, 0, 1, 1, 121, 5, 0, 10, 0, 1, 254)))
	f.Add([]byte(debian("eth1", "  option classless-static-routes 0 10.0.1.254;\n")))
	f.Add([]byte("ADDRESS=10.0.1.10\nROUTES=0.0.0.0/0,10.0.1.1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all := append(dhclientLeases(data), networkdLease(data), dhcpcdLease(data, noon))
		for _, g := range all {
			for _, gateway := range g.gateways {
				if !gateway.Is4() || gateway.IsUnspecified() {
					t.Errorf("gateway %s", gateway)
				}
			}
		}
	})
}
