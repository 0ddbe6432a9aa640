package routing

import "testing"

func TestConf(t *testing.T) {
	for _, tt := range []struct {
		name, all, own string
		value          int
		known          bool
	}{
		{"neither was read", "", "", 0, false},
		{"all is larger", "2", "1", 2, true},
		{"the link's own is larger", "0", "1", 1, true},
		{"only all was read", "1", "", 1, true},
		{"only the link's own was read", "", "0", 0, true},
		{"no number", "x", "1", 1, true},
	} {
		h := Host{Sysctls: map[string]string{"ipv4.conf.all.rp_filter": tt.all,
			"ipv4.conf.eth0.rp_filter": tt.own, "ipv4.conf.eth1.rp_filter": "3"}}
		if value, known := h.conf("eth0", "rp_filter"); value != tt.value ||
			known != tt.known {
			t.Errorf("%s: %d, %t, want %d, %t", tt.name, value, known,
				tt.value, tt.known)
		}
	}
}
