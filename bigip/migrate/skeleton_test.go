package migrate

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"lasthop/bigip"
)

// TestSkeleton: the result of each kind of virtual server in a skeleton.
// TestSkeletonNGINX passes it to NGINX and lasthop's reader.
func TestSkeleton(t *testing.T) {
	for _, tt := range skeletonCases {
		got, whole := skeletonOf(t, "ltm virtual "+tt.virtual+"\n")
		_, got, _ = strings.Cut(got, "\nevents {\n}\n\n")
		if d := cmp.Diff(tt.want, got); d != "" || whole == tt.part {
			t.Errorf("%s: whole %v: -want +got\n%s", tt.name, whole, d)
		}
	}
}

var skeletonCases = []struct {
	name, virtual, want string // want is without the head
	part                bool
}{
	{"http", `a { destination 192.0.2.1:80 ip-protocol tcp profiles { http { } } }`,
		`http {
    # ltm virtual /Common/a (f:1)
    server {
        listen 192.0.2.1:80;
        return 503;
    }
}
`, false},
	{"TLS", `a { destination 2001:db8::1.443 ip-protocol tcp profiles { http { } clientssl { } } source 10.0.0.0/8 }`,
		`http {
    # ltm virtual /Common/a (f:1)
    # It served only clients of 10.0.0.0/8.
    server {
        listen [2001:db8::1]:443;  # with a certificate: listen [2001:db8::1]:443 ssl;
        # ssl_certificate FILE;
        # ssl_certificate_key FILE;
        return 503;
    }
}
`, false},
	{"TLS without HTTP, and UDP", `a { destination 192.0.2.1:5000 profiles { clientssl { } } }`,
		`stream {
    # ltm virtual /Common/a (f:1)
    server {
        listen 192.0.2.1:5000;  # with a certificate: listen 192.0.2.1:5000 ssl;
        listen 192.0.2.1:5000 udp;
        # ssl_certificate FILE;
        # ssl_certificate_key FILE;
        return "";  # in place of proxy_pass
    }
}
`, false},
	{"HTTP of every protocol", `a { destination 192.0.2.1%7:443 profiles { http { } } }`,
		`http {
    # ltm virtual /Common/a (f:1)
    server {
        listen 192.0.2.1:443;
        return 503;
    }
}

stream {
    # ltm virtual /Common/a (f:1)
    server {
        listen 192.0.2.1:443 udp;
        return "";  # in place of proxy_pass
    }
}
`, false},
	{"the same listener twice", `a { destination 192.0.2.1:443 ip-protocol tcp }
ltm virtual b { destination 192.0.2.1%2:443 ip-protocol tcp profiles { http { } } }`,
		`http {
    # ltm virtual /Common/b (f:2)
    # 192.0.2.1:443: /Common/a listens there
}

stream {
    # ltm virtual /Common/a (f:1)
    server {
        listen 192.0.2.1:443;
        return "";  # in place of proxy_pass
    }
}
`, true},
	{"every port", `a { destination 192.0.2.1:0 ip-protocol udp }`,
		`stream {
    # ltm virtual /Common/a (f:1)
    # 192.0.2.1: it serves every port; name those in use (a listen on 1-65535 opens 65,535 sockets, and leaves no room for other listeners in the mode last-hop)
}
`, true},
	{"a wildcard", `a { destination 0.0.0.0:443 mask any ip-protocol tcp }`, `stream {
    # ltm virtual /Common/a (f:1)
    # 0.0.0.0/0: not one address; NGINX listens on addresses, name those in use
}
`, true},
	{"a network", `a { destination 10.1.0.0:443 mask 255.255.0.0 ip-protocol tcp }`, `stream {
    # ltm virtual /Common/a (f:1)
    # 10.1.0.0/16: not one address; NGINX listens on addresses, name those in use
}
`, true},
	{"another protocol", `a { destination 192.0.2.1:443 ip-protocol sctp }`, `stream {
    # ltm virtual /Common/a (f:1)
    # 192.0.2.1: it serves sctp; NGINX serves tcp and udp
}
`, true},
	{"link-local", `a { destination fe80::1.443 ip-protocol tcp }`, `stream {
    # ltm virtual /Common/a (f:1)
    # fe80::1: NGINX cannot listen on such an address
}
`, true},
	{"an unknown service", `a { destination 192.0.2.1:no-such ip-protocol tcp }`, "stream " +
		"{\n    # ltm virtual /Common/a (f:1)\n    # 192.0.2.1: port no-such is the name of an " +
		"unknown service or list\n}\n", true},
	{"no address", `a { destination no-such:443 ip-protocol tcp }`, `stream {
    # ltm virtual /Common/a (f:1)
    # no-such:443: the files do not say which address this is
}
`, true},
	{"many ports", `a { destination 192.0.2.1:8000-9023 ip-protocol tcp }
ltm virtual b { destination 192.0.2.2:8000-9024 ip-protocol tcp }`, `stream {
    # ltm virtual /Common/a (f:1)
    server {
        listen 192.0.2.1:8000-9023;
        return "";  # in place of proxy_pass
    }

    # ltm virtual /Common/b (f:2)
    # 192.0.2.2:8000-9024: too many ports, NGINX opens a socket for each; name those in use
}
`, true},
	{"disabled", `a { destination 192.0.2.1:80 ip-protocol tcp disabled }`, `stream {
    # ltm virtual /Common/a (f:1)
    # not served here: disabled by ltm virtual /Common/a
}
`, false},
	{"an overlap", `a { destination 192.0.2.1:8003-8005 ip-protocol tcp }
ltm virtual b { destination 192.0.2.1:8000-8010 ip-protocol tcp }`, `stream {
    # ltm virtual /Common/a (f:1)
    server {
        listen 192.0.2.1:8003-8005;
        return "";  # in place of proxy_pass
    }

    # ltm virtual /Common/b (f:2)
    # 192.0.2.1:8003-8005: /Common/a listens there
    server {
        listen 192.0.2.1:8000-8002;
        listen 192.0.2.1:8006-8010;
        return "";  # in place of proxy_pass
    }
}
`, true},
}

func skeletonOf(t *testing.T, conf string) (string, bool) {
	t.Helper()
	c, err := bigip.Parse("f", []byte(conf))
	if err != nil {
		t.Fatal(err)
	}
	text, whole, err := Selection{}.Skeleton(c)
	if err != nil {
		t.Fatal(err)
	}
	return text, whole
}

// TestSkeletonHostile: texts of a BIG-IP's files stay comments. None becomes a
// directive or moves a terminal's cursor, and no comment is too long for NGINX.
func TestSkeletonHostile(t *testing.T) {
	c, err := bigip.Parse("f", []byte(`ltm virtual a { destination 192.0.2.1:80 ip-protocol tcp }
ltm virtual b { destination 192.0.2.1:80 ip-protocol tcp }`))
	if err != nil {
		t.Fatal(err)
	}
	for _, evil := range []string{"x\n}\nevil on;", "x\revil on;", "x\u2028evil on;",
		"x\x1b[2J\u202eevil", "x\x00\xff", strings.Repeat("ä", 9000), "x\\\nevil on;",
		"x\u0085evil on;", "'\"{};#$evil"} {
		c.Hostname, c.Virtuals[0].Name, c.Virtuals[1].Origin = evil, evil, evil
		c.Virtuals[1].Destinations[0].Service = evil
		text, _, _ := Selection{}.Skeleton(c)
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if !harmless.MatchString(line) || len(line) > 4000 ||
				strings.ContainsFunc(line, func(r rune) bool {
					return !unicode.IsPrint(r)
				}) {
				t.Errorf("%q becomes the line %q", evil, line)
			}
		}
	}
}

// harmless are the lines of a skeleton.
var harmless = regexp.MustCompile(`^( *#.*|events \{|stream \{|    server \{|include /\S+;|` +
	` *listen \S+;|        return "";  # in place of proxy_pass| *\}|)$`)

// TestSkeletonOfWave: it has the selected virtual servers alone, and says how
// many it leaves out.
func TestSkeletonOfWave(t *testing.T) {
	c, err := bigip.Parse("f", []byte(`ltm virtual /Common/a { destination /Common/192.0.2.1:80 ip-protocol tcp }
ltm virtual /Common/b { destination /Common/192.0.2.2:80 ip-protocol tcp }
ltm virtual /Common/c { destination /Common/192.0.2.3:80 ip-protocol tcp }`))
	if err != nil {
		t.Fatal(err)
	}
	text, whole, err := Selection{Only: []string{"/Common/b"}}.Skeleton(c)
	if err != nil || !whole || !strings.Contains(text, "listen 192.0.2.2:80;") ||
		strings.Count(text, "listen ") != 1 ||
		!strings.Contains(text, "left out by --only and --skip: 2\n") {
		t.Errorf("%t, %v\n%s", whole, err, text)
	}
	if _, _, err := (Selection{Only: []string{"/Common/d"}}).Skeleton(c); err == nil {
		t.Error("a pattern that matches nothing is no error")
	}
}
