package nginxconf

import (
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// FuzzListen: no address crashes the parser, and what it understands it writes
// so that it reads the same again.
func FuzzListen(f *testing.F) {
	for _, s := range []string{"80", "*:80", "10.0.0.1", "10.0.0.1:8000-8005", "010.001.1.2:80",
		"127.1", "0x7f000001:80", "2130706433", "[::]:80", "[2001:db8::1]",
		"[::ffff:10.0.0.1]:1", "unix:/x", "UNIX:@a", ":80", "localhost:1-2",
		"10.1.1.1-8003", "[::1%lo]:80", "*", "a:b", "1-65535", "[", "65536"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parseEndpoint(s)
		if err != nil {
			return
		}
		if e.first > e.last {
			t.Fatalf("%q: ports %d to %d", s, e.first, e.last)
		}
		again, err := parseEndpoint(e.String())
		if err != nil || again != e {
			t.Fatalf("%q is %+v, its %q is %+v (%v)", s, e, e.String(), again, err)
		}
	})
}

// FuzzLoad: no file crashes, hangs or leaks, and every listen says where it
// comes from.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{"", "events {}", "events {} http { server { listen 80; } }",
		"events {} stream { server { listen 53 udp; proxy_bind 10.0.0.1; " +
			"proxy_pass 10.0.0.2:53; } }",
		"events {} http { include main.conf; }", "events {} http { if () { } }", "events {} http { content_by_lua_block { local x = [[ } ]] } server { listen 1; } }",
		"events {} http { map $a $b { listen 1; } server { listen unix:/x; listen [::]:443 quic ipv6only=off; } }", "\xef\xbb\xbfevents {}", "events {\x00}", "http { server { listen 80;", "include;", "events {} http { geo $x { volatile; } }"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "main.conf")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		before := runtime.NumGoroutine()
		c, err := Load(path, Options{Resolve: func(string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
		}})
		for _, l := range c.Listens {
			if l.Origin == "" || !l.Addr.IsValid() || l.First == 0 || l.First > l.Last {
				t.Fatalf("%+v", l)
			}
		}
		if err != nil && err.Error() == "" {
			t.Fatal("an error without words")
		}
		for end := time.Now().Add(2 * time.Second); runtime.NumGoroutine() >
			before; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		}
	})
}
