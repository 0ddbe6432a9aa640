package lasthop

import (
	"strings"
	"testing"
)

func TestMissing(t *testing.T) {
	for _, tt := range []struct{ release, version, signature, want string }{
		{"6.18.1", "#1 SMP", "", ""},
		{"6.6.0", "", "", ""},
		{"7.0.0-rc1", "", "", ""},
		{"5.10.195", "", "", ""},
		{"5.10.194", "", "", "Linux 5.10.194 lacks the fix of CVE-2023-53338, which 5.10.195 has"},
		{"6.1.53", "", "", ""},
		{"6.1.52", "", "", "which 6.1.53 has"},
		{"6.5.3", "", "", ""},
		{"6.5.2-vendor", "", "", "Linux 6.5.2-vendor lacks the fix"},
		{"5.10.0-30-amd64", "#1 SMP Debian 5.10.218-1 (2024-06-01)", "", ""},
		{"5.10.0-25-amd64", "#1 SMP Debian 5.10.191-1 (2023-08-16)", "", "Linux 5.10.0-25-amd64 (5.10.191) lacks the fix"},
		{"6.1.0-25-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.106-3 (2024-08-26)", "", ""},
		{"5.15.0-91-generic", "#101-Ubuntu SMP", "Ubuntu 5.15.0-91.101-generic 5.15.131", "(5.15.131) lacks the fix"},
		{"5.15.0-92-generic", "#102-Ubuntu SMP", "Ubuntu 5.15.0-92.102-generic 5.15.132", ""},
		{"5.14.0-427.el9.x86_64", "#1 SMP PREEMPT_DYNAMIC", "", "whether it has the fix of CVE-2023-53338 is not known"},
		{"6.1.115-126.amzn2023.x86_64", "#1 SMP PREEMPT_DYNAMIC", "", ""},
		{"6.2.16", "", "", "is not known"},
		{"5.9.16", "", "", "older than 5.10"},
		{"4.18.0-553.el8_10.x86_64", "", "", "older than 5.10"},
		{"", "", "", "older than 5.10"},
	} {
		k := Kernel{tt.release, tt.version, tt.signature}
		got := k.lacks(false)
		if got != tt.want && (tt.want == "" || !strings.Contains(got, tt.want)) {
			t.Errorf("%+v: missing %q, want %q", k, got, tt.want)
		}
		if unknown := strings.Contains(got, "not known"); unknown &&
			k.lacks(true) != "" || !unknown && k.lacks(true) != got {
			t.Errorf("%+v: with trust missing %q", k, k.lacks(true))
		}
	}
}
