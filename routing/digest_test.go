package routing_test

import (
	"strings"
	"testing"

	"lasthop/routing"
)

// TestIsDigest: at least 12 digits of a digest's beginning name it.
func TestIsDigest(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	for named, want := range map[string]bool{
		digest:                              true,
		digest[len("sha256:"):]:             true,
		routing.ShortDigest(digest):         true,
		"sha256:0123456789ab":               true,
		"0123456789AB":                      true,
		"0123456789a":                       false,
		"sha256:01234":                      false,
		"sha256:":                           false,
		"":                                  false,
		"0123456789ac":                      false,
		"123456789abc":                      false,
		digest + "0":                        false,
		"sha512:" + digest[len("sha256:"):]: false,
	} {
		if got := routing.IsDigest(named, digest); got != want {
			t.Errorf("%q: %v, want %v", named, got, want)
		}
	}
	if got := routing.ShortDigest("sha256:01"); got != "01" {
		t.Errorf("a short digest of a short one is %q", got)
	}
}
