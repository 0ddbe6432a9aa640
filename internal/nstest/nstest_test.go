package nstest

import (
	"net"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// TestNew: a namespace has only lo, however many links the machine has, and
// changes in one do not show in another.
func TestNew(t *testing.T) {
	a, b := New(t), New(t)
	a.Batch("link add v0 type veth peer name v1\naddr add 10.0.0.1/24 dev v0\nlink set v0 up\n")
	a.Sysctl("net.ipv4.ip_forward=1")
	for _, tt := range []struct {
		ns            *NS
		links, sysctl string
	}{
		{a, "lo v0 v1", "1"},
		{b, "lo", "0"},
	} {
		var names []string
		tt.ns.Do(func() {
			links, err := net.Interfaces()
			if err != nil {
				t.Error(err)
			}
			for _, l := range links {
				names = append(names, l.Name)
			}
		})
		seen := map[string]bool{}
		for _, name := range names {
			seen[name] = true
		}
		for _, want := range strings.Fields(tt.links) {
			if !seen[want] {
				t.Errorf("links %q lack %s", names, want)
			}
		}
		if len(names) != len(strings.Fields(tt.links)) {
			t.Errorf("links %q, want %s", names, tt.links)
		}
		if got := strings.TrimSpace(tt.ns.Run("cat",
			"/proc/sys/net/ipv4/ip_forward")); got != tt.sysctl {
			t.Errorf("ip_forward is %s, want %s", got, tt.sysctl)
		}
	}
}
