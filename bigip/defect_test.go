package bigip

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sound is a configuration of five virtual servers with everything between them
// that has quotes and braces.
const sound = `#TMSH-VERSION: 16.1.0

ltm virtual /Common/a {
    auto-lasthop enabled
    destination /Common/192.0.2.1:80
    vlans {
        /Common/x
    }
    vlans-enabled
}
ltm rule /Common/r {
when HTTP_REQUEST {
    # a "comment
    regsub -all {"} $err {\"} err
}

when LB_FAILED {
}
}
ltm virtual /Common/b {
    description "two words"
    destination /Common/192.0.2.2:80
    profiles {
        /Common/tcp { }
    }
}
ltm virtual /Common/c { destination /Common/192.0.2.3:80 }
security dos profile /Common/p {
    body "<html>
#body {
}
say \"}\"
</html>"
}
ltm virtual /Common/d {
    destination 2001:db8::4.80
}

cli script /Common/s {
proc script::run {} {
}
}
ltm virtual /Common/e {
    destination /Common/192.0.2.5:80
}
`

// TestDefects takes each character away, and puts a brace, a quote, a backslash
// or a comment at each place: it never costs more than one virtual server.
func TestDefects(t *testing.T) {
	want := virtualsOf(t, sound)
	if len(want) != 5 {
		t.Fatal(want)
	}
	for i := range sound {
		texts := []string{sound[:i] + sound[i+1:]}
		for _, c := range []string{"{", "}", `"`, `\`, "#", "{ }", "\n"} {
			texts = append(texts, sound[:i]+c+sound[i:])
		}
		for _, text := range texts {
			got := virtualsOf(t, text)
			lost := 0
			for _, v := range want {
				if !slices.ContainsFunc(got,
					func(g Virtual) bool { return reflect.DeepEqual(v, g) }) {
					lost++
				}
			}
			if lost > 1 || len(got) > len(want) {
				t.Errorf("%d virtual servers are lost, %d "+
					"found, with this at %d:\n%s", lost, len(got), i,
					text[max(0, i-60):min(len(text), i+60)])
			}
		}
	}
}

// virtualsOf are the virtual servers of a text, without the lines that they are
// in.
func virtualsOf(t *testing.T, text string) []Virtual {
	c, err := Parse("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	account(t, c)
	for i := range c.Virtuals {
		c.Virtuals[i].Origin = ""
		for j := range c.Virtuals[i].Destinations {
			c.Virtuals[i].Destinations[j].Origin = ""
		}
	}
	return c.Virtuals
}

// TestDamagedListHoldsNoSecret loses the brace of a list of VLANs: what follows
// it is no name.
func TestDamagedListHoldsNoSecret(t *testing.T) {
	c, err := Parse("f", []byte("net vlan /Common/a {\n}\nltm virtual /Common/v {\n"+
		"    destination /Common/10.0.0.1:80\n    vlans-enabled\n    vlans {\n"+
		"        /Common/a\n    description \"the secret\"\n"))
	if err != nil || len(c.Virtuals) != 1 {
		t.Fatal(len(c.Virtuals), err)
	}
	if diff := cmp.Diff([]string{"/Common/a"}, c.Virtuals[0].VLANs.Only); diff != "" ||
		!c.Virtuals[0].Damaged {
		t.Errorf("-want +got\n%s", diff)
	}
}
