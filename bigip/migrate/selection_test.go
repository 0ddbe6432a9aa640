package migrate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/bigip"
	"lasthop/internal/hint"
)

const estate = `ltm virtual /Common/web_1 { destination /Common/10.1.0.1:443 }
ltm virtual /Common/web_2 { destination /Common/10.1.0.2%2:443 }
ltm virtual /Common/net { destination /Common/10.1.0.0:443 mask 255.255.255.0 }
ltm virtual /Common/six { destination /Common/2001:db8::1.443 }
ltm virtual /Team1/web_1 { destination /Team1/10.2.0.1:443 }
ltm virtual /Team1/app.d/web { destination /Team1/10.2.0.2%2:443 }
ltm virtual /Team10/web { destination /Team10/10.20.0.1:443 }
ltm virtual /Common/off { destination /Common/10.1.0.9:443 disabled }
ltm virtual /Common/nowhere { pool p }
`

// TestSelection: what patterns take, each alone and together.
func TestSelection(t *testing.T) {
	c, err := bigip.Parse("bigip.conf", []byte(estate))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ only, skip, want string }{
		{"", "", "/Common/web_1 /Common/web_2 /Common/net /Common/six /Team1/web_1 /Team1/app.d/web /Team10/web /Common/nowhere"},
		{"/Common/web_*", "", "/Common/web_1 /Common/web_2"},
		{"/Common/web_?", "/Common/web_[2-9]", "/Common/web_1"},
		{"web_1", "", "/Common/web_1 /Team1/web_1"},
		{"/*/web", "", "/Team10/web"},
		{"/Team1/", "", "/Team1/web_1 /Team1/app.d/web"},
		{"/Team1/app.d/", "", "/Team1/app.d/web"},
		{"/Team1*/", "", "/Team1/web_1 /Team1/app.d/web /Team10/web"},
		{"10.1.0.0/16", "", "/Common/web_1 /Common/web_2 /Common/net"},
		{"10.1.0.0/25", "", "/Common/web_1 /Common/web_2"}, // net is not in it
		{"10.1.7.7/16", "10.1.0.1", "/Common/web_2 /Common/net"},
		{"10.1.0.0%2/16", "", "/Common/web_2"},
		{"10.1.0.2%2", "", "/Common/web_2"},
		{"2001:db8::/32", "", "/Common/six"},
		{"2001:db8::1", "", "/Common/six"},
		{"%2", "", "/Common/web_2 /Team1/app.d/web /Common/nowhere"},
		{"%2 web_*", "", "/Common/web_2"}, // both must hold
		{"%2 %0 web_*", "", "/Common/web_1 /Common/web_2 /Team1/web_1"},
		{"", "%0", "/Common/web_2 /Team1/app.d/web /Common/nowhere"},
		{"/Team1/ six", "%2", "/Common/six /Team1/web_1"},
	}
	for _, test := range tests {
		s := Selection{Only: strings.Fields(test.only), Skip: strings.Fields(test.skip)}
		taken, x, err := s.apply(c)
		if err != nil {
			t.Fatal(test.only, test.skip, err)
		}
		var names []string
		left := len(x.left)
		for v := range serving(taken) {
			names = append(names, v.Name)
		}
		d := cmp.Diff(test.want, strings.Join(names, " "))
		if d != "" || left != 8-len(names) {
			t.Errorf("--only %s --skip %s leaves out %d: -want +got\n%s", test.only,
				test.skip, left, d)
		}
	}
}

// TestSelectionErrors: a pattern that is none or that matches nothing is a
// mistake, as is a selection of nothing.
func TestSelectionErrors(t *testing.T) {
	c, err := bigip.Parse("bigip.conf", []byte(estate))
	if err != nil {
		t.Fatal(err)
	}
	const none, nothing = "not a pattern", "no virtual server of the files matches"
	tests := []struct {
		only, skip, want, hint string
	}{
		{"%", "", "--only %: " + none, "partition"},
		{"", "%two", "--skip %two: " + none, "partition"},
		{"%70000", "", none, ""},
		{"10.1.0.0/33", "", none, ""},
		{"10.1.0/16", "", none, ""},
		{"10.1.0.1%2%3", "", none, ""},
		{"%2/16", "", none, ""},
		{"Common/web", "", none, ""},
		{"2001:db8:::1", "", none, ""},
		{"/Common/[", "", "--only /Common/[: syntax error in pattern", ""},
		{"", "/Common/wbe_*", "--skip /Common/wbe_*: " + nothing, "full"},
		{"%3", "", "--only %3: " + nothing, "they serve in the route domains 0, 2"},
		{"/Team2/", "", nothing, ""},
		{"10.9.0.0/16", "", nothing, ""},
		{"/Common/off", "", "--only and --skip leave no virtual server", "lists all"},
		{"web_1", "/Common/ /Team1/", "--only and --skip leave no virtual server", ""},
	}
	for _, test := range tests {
		s := Selection{Only: strings.Fields(test.only), Skip: strings.Fields(test.skip)}
		_, _, err := s.apply(c)
		if err == nil || !strings.Contains(err.Error(), test.want) ||
			!strings.Contains(hint.Of(err), test.hint) || hint.Of(err) == "" {
			t.Errorf("--only %s --skip %s: %v (%s), want %s", test.only, test.skip, err,
				hint.Of(err), test.want)
		}
	}
	s := Selection{Only: []string{""}}
	if _, _, err := s.apply(c); err == nil {
		t.Error("an empty pattern is taken")
	}
}
