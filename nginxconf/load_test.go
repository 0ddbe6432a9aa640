package nginxconf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// write makes the files of an archive below a directory of the test's own.
func write(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func names(host string) ([]netip.Addr, error) {
	if host == "two.example" {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"),
			netip.MustParseAddr("2001:db8::1")}, nil
	}
	return nil, errors.New("no such host")
}

// lines prints listens and binds, with file names relative to dir.
func lines(c Config, dir string) string {
	var b strings.Builder
	for _, l := range c.Listens {
		ports := fmt.Sprint(l.First)
		if l.Last != l.First {
			ports = fmt.Sprintf("%d-%d", l.First, l.Last)
		}
		fmt.Fprintf(&b, "%s %s %s/%s %s %s\n", l.Context, l.Addr, ports, l.Transport,
			strings.Join(l.Servers, ","), l.Origin)
	}
	for _, x := range c.Binds {
		addr := "runtime"
		if x.Addr.IsValid() {
			addr = x.Addr.String()
		}
		fmt.Fprintf(&b, "%s %s %v %v %s\n", x.Directive, addr, x.Transparent,
			x.Upstreams, x.Origin)
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(&b, "warning %s %s\n", w.Code, w.Origin)
	}
	return strings.ReplaceAll(b.String(), dir+"/", "")
}

// Third-party modules open IPv6 sockets for both families, NGINX's own do not.
func TestIPv6Only(t *testing.T) {
	for listen, want := range map[string]bool{
		"http { server { listen [::]:80; } }":                           true,
		"http { server { listen [::]:80 ipv6only=off; } }":              false,
		"mail { server { listen [::]:25; } }":                           true,
		"stream { server { listen [2001:db8::1]:53 udp; } }":            true,
		"rtmp { server { listen [::]:1935; } }":                         false,
		"rtmp { server { listen [::]:1935 ipv6only=on; } }":             true,
		"http { server { listen [::ffff:10.0.0.1]:80 ipv6only=off; } }": false,
		"http { server { listen 80; } }":                                false,
	} {
		dir := write(t, "-- nginx.conf --\nevents {}\n"+listen+"\n")
		c, err := Load(filepath.Join(dir, "nginx.conf"), Options{Resolve: names})
		if err != nil || len(c.Listens) != 1 || c.Listens[0].IPv6Only != want ||
			c.Listens[0].Addr.Is4In6() {
			t.Errorf("%s: got %+v (%v), want IPv6Only %v", listen, c.Listens, err, want)
		}
	}
}

// TestNoPort: the finding says, with file and line, that a word is no port
// although NGINX takes it for a host name.
func TestNoPort(t *testing.T) {
	for listen, want := range map[string]string{
		"80x":             "not a valid port; as a host name: resolve 80x: ",
		"443ssl":          "not a valid port; as a host name: ",
		"none.example":    "resolve none.example: ",
		"none.example:80": "resolve none.example: ",
		"1none:80":        "resolve 1none: ",
		"80-90x":          "not a valid port; as a host name: ",
	} {
		dir := write(t, "-- nginx.conf --\nevents {}\nhttp { server { listen "+listen+
			"; } }\n")
		got, err := Load(filepath.Join(dir, "nginx.conf"), Options{Resolve: names})
		if err != nil || len(got.Warnings) != 1 {
			t.Fatalf("%s: %v, %v", listen, got.Warnings, err)
		}
		w := got.Warnings[0]
		if !strings.HasPrefix(w.Message, "listen "+listen+": "+want) ||
			!strings.HasSuffix(w.Origin, "/nginx.conf:2") {
			t.Errorf("%s: %+v, want %q", listen, w, want)
		}
	}
}

func TestLoad(t *testing.T) {
	for _, c := range []struct{ name, conf, want string }{
		{"every context, with names and lines", `events {}
http { server { listen 10.0.0.1:80; server_name a.example b.example; } }
stream { server { listen 53 udp; } }
mail { server { listen [2001:db8::5]:25; protocol smtp; } }`,
			"http 10.0.0.1 80/tcp a.example,b.example nginx.conf:2\nstream 0.0.0.0 53/udp  nginx.conf:3\nmail 2001:db8::5 25/tcp  nginx.conf:4\n"},
		{"quic is udp, unix is nothing, a range is one", `events {}
http { server { listen 443 quic; listen unix:/run/x; listen 10.0.0.1:8000-8003; } }`,
			"http 0.0.0.0 443/udp  nginx.conf:2\nhttp 10.0.0.1 8000-8003/tcp  nginx.conf:2\n"},
		{"an http server without listen", "events {}\nhttp {\nserver { } }", "http 0.0.0.0 80/tcp  nginx.conf:3\n"},
		{"octets with zeros, and one number", "events {}\nhttp { server { listen 010.001.1.2:80; listen 127.1:81; listen 2130706433:82; } }",
			"http 10.1.1.2 80/tcp  nginx.conf:2\nhttp 127.0.0.1 81/tcp  nginx.conf:2\nhttp 127.0.0.1 82/tcp  nginx.conf:2\n"},
		{"a host name is all of its addresses", "events {}\nhttp { server { listen two.example:80; listen none.example:80; } }",
			"http 192.0.2.1 80/tcp  nginx.conf:2\nhttp 2001:db8::1 80/tcp  nginx.conf:2\nwarning unresolved-host nginx.conf:2\n"},
		{"misspelt, in a server alone", "events {}\nhttp { lisen 1; server { lisen 10.0.1.100:443; location / { lisen 9; } } }", "http 0.0.0.0 80/tcp  nginx.conf:2\nwarning parser nginx.conf:2\n"},
		{"stream without port", "events {}\nstream { server { listen 10.0.0.1; } }", "warning no-port nginx.conf:2\n"},
		{"listen in a map is data", "events {}\nhttp { map $a $b { listen 81; } server { listen 80; } }", "http 0.0.0.0 80/tcp  nginx.conf:2\n"},
		{"Lua with braces", "events {}\nhttp { server { listen 80; location / { content_by_lua_block { local s = \"}\" -- it's }\n local l = [[ } ]] } } }\nserver { listen 81; } }",
			"http 0.0.0.0 80/tcp  nginx.conf:2\nhttp 0.0.0.0 81/tcp  nginx.conf:4\n"},
		{"binds with literal upstreams, inherited", `events {}
http { upstream app { server 10.0.0.5:80; server app.example; } proxy_bind 10.0.0.1;
server { listen 80; location / { proxy_pass http://app; } location /b { proxy_bind $remote_addr transparent; proxy_pass http://10.0.0.6; } } }
stream { server { listen 81; proxy_bind 10.0.0.2; proxy_pass 10.0.0.7:9; } }`,
			"http 0.0.0.0 80/tcp  nginx.conf:3\nstream 0.0.0.0 81/tcp  nginx.conf:4\n" +
				"proxy_bind runtime true [10.0.0.6] nginx.conf:3\nproxy_bind 10.0.0.1 false [10.0.0.5] nginx.conf:2\nproxy_bind 10.0.0.2 false [10.0.0.7] nginx.conf:4\n"},
		{"servers of a third-party module", `events {}
rtmp { server { listen 10.0.0.1:1935; application live { live on; } } server { application a { } } }`,
			"rtmp 10.0.0.1 1935/tcp  nginx.conf:2\n"},
		{"a bind to $server_addr is one for each address of the server", `events {}
http { server { listen 10.0.0.1:80; listen 10.0.0.2:80; listen 10.0.0.1:81; location / { proxy_bind $server_addr:$remote_port; proxy_pass http://10.0.0.5; } }
server { listen 82; proxy_bind ${server_addr}; } }`,
			"http 10.0.0.1 80/tcp  nginx.conf:2\nhttp 10.0.0.2 80/tcp  nginx.conf:2\nhttp 10.0.0.1 81/tcp  nginx.conf:2\nhttp 0.0.0.0 82/tcp  nginx.conf:3\n" +
				"proxy_bind 10.0.0.1 false [10.0.0.5] nginx.conf:2\nproxy_bind 10.0.0.2 false [10.0.0.5] nginx.conf:2\nproxy_bind runtime false [] nginx.conf:3\n"},
		{"inherited by several servers", `events {}
http { proxy_bind $server_addr; server { listen 10.0.0.1:80; location / { proxy_pass http://10.0.0.5; } }
server { listen [2001:db8::2]:80; location / { proxy_pass http://10.0.0.6; } location /o { proxy_bind off; proxy_pass http://10.0.0.7; } } }`,
			"http 10.0.0.1 80/tcp  nginx.conf:2\nhttp 2001:db8::2 80/tcp  nginx.conf:3\n" +
				"proxy_bind 10.0.0.1 false [10.0.0.5] nginx.conf:2\nproxy_bind 2001:db8::2 false [10.0.0.6] nginx.conf:2\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, "-- nginx.conf --\n"+c.conf+"\n")
			got, err := Load(filepath.Join(dir, "nginx.conf"), Options{Resolve: names})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, lines(got, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Includes are relative to the main file, patterns are glob(3)'s, and
// everything that was read is listed.
func TestLoadIncludes(t *testing.T) {
	dir := write(t, `-- nginx.conf --
events {}
http { include conf.d/*.conf; include "sites/[!a]*"; include none/*.conf; }
-- conf.d/a.conf --
server { listen 1; include inner.conf; }
-- conf.d/.hidden.conf --
server { listen 2; }
-- inner.conf --
listen 3;
-- conf.d/inner.conf --
listen 4;
-- sites/a1 --
server { listen 5; }
-- sites/b1 --
server { listen 6; }
`)
	// conf.d/inner.conf matches *.conf in http context and is no server:
	// NGINX would refuse it. It is not loaded here.
	if err := os.Remove(filepath.Join(dir, "conf.d/inner.conf")); err != nil {
		t.Fatal(err)
	}
	got, err := Load(filepath.Join(dir, "nginx.conf"), Options{Resolve: names})
	if err != nil {
		t.Fatal(err)
	}
	want := "http 0.0.0.0 1/tcp  conf.d/a.conf:1\nhttp 0.0.0.0 3/tcp  inner.conf:1\n" +
		"http 0.0.0.0 6/tcp  sites/b1:1\n"
	if diff := cmp.Diff(want, lines(got, dir)); diff != "" {
		t.Error(diff)
	}
	var files []string
	for _, f := range got.Files {
		files = append(files, strings.TrimPrefix(f, dir+"/"))
	}
	if diff := cmp.Diff([]string{"nginx.conf", "conf.d/a.conf", "inner.conf", "sites/b1"},
		files); diff != "" {
		t.Error(diff)
	}
	if len(got.Dirs) < 2 {
		t.Errorf("directories %v, want those of the patterns", got.Dirs)
	}
}

// Below a root, absolute names and absolute symbolic links stay below it.
func TestLoadBelowRoot(t *testing.T) {
	dir := write(t, "-- etc/nginx/nginx.conf --\nevents {}\n"+
		"http { include /etc/nginx/on/*; }\n-- etc/nginx/off/a --\n"+
		"server { listen 10.0.0.1:80; }\n")
	if err := os.Mkdir(filepath.Join(dir, "etc/nginx/on"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/nginx/off/a", filepath.Join(dir, "etc/nginx/on/a")); err != nil {
		t.Fatal(err)
	}
	got, err := Load("/etc/nginx/nginx.conf", Options{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	if want := "http 10.0.0.1 80/tcp  /etc/nginx/on/a:1\n"; lines(got, dir) != want {
		t.Errorf("got %s, want %s", lines(got, dir), want)
	}
}

// Each bad input gives one error with file, line where there is one, and a
// hint; it never hangs.
func TestLoadErrors(t *testing.T) {
	dir := write(t, "-- empty.conf --\n-- trunc.conf --\nevents {}\n"+
		"http { server { listen 80;\n-- loop.conf --\nevents {}\ninclude loop2.conf;\n"+
		"-- loop2.conf --\n\ninclude loop.conf;\n"+
		"-- include.conf --\nevents {}\n\nhttp { include gone.conf; }\n-- brace.conf --\n"+
		"events {}\n}\n-- sub/x --\n-- dirinclude.conf --\nevents {}\ninclude sub;\n"+
		"-- fifo.conf --\nevents {}\ninclude pipe;\n")
	if err := os.WriteFile(filepath.Join(dir, "binary.conf"),
		[]byte("\x7fELF\x00\x01\x02{{{\xff"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := mkfifo(filepath.Join(dir, "pipe")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, want string }{
		{"missing.conf", "missing.conf: read configuration: no such file"},
		{"sub", "sub: read configuration: is a directory"},
		{"empty.conf", "empty.conf: is empty"},
		{"trunc.conf", "trunc.conf:"},
		{"loop.conf", "loop2.conf:2: "},
		{"include.conf", "include.conf:3: "},
		{"brace.conf", "brace.conf:2: "},
		{"binary.conf", "binary.conf"},
		{"dirinclude.conf", "dirinclude.conf:2: "},
		{"fifo.conf", "fifo.conf:2: "},
	} {
		t.Run(c.file, func(t *testing.T) {
			done := make(chan error, 1)
			go func() {
				_, err := Load(filepath.Join(dir, c.file), Options{Resolve: names})
				done <- err
			}()
			select {
			case err := <-done:
				var e *Error
				if !errors.As(err, &e) ||
					!strings.HasPrefix(strings.ReplaceAll(err.Error(), dir+"/",
						""), c.want) || e.Hint() == "" {
					t.Errorf("got %v, want an error with a hint that begins %q",
						err, c.want)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("Load hangs")
			}
		})
	}
}

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o644) }

// A file that this user may not read is an error at the place that names it; so
// is a directory of a pattern: NGINX reads it as root, so an empty result would
// be wrong.
func TestLoadUnreadable(t *testing.T) {
	dir := write(t, "-- secret/a.conf --\nserver { listen 81; }\n-- secret/nginx.conf --\n"+
		"events {}\n-- file.conf --\nevents {}\nhttp {\ninclude secret/a.conf; }\n"+
		"-- pattern.conf --\nevents {}\nhttp {\n\ninclude secret/*.conf; }\n")
	if err := os.Chmod(filepath.Join(dir, "secret"), 0); err != nil {
		t.Fatal(err)
	}
	// so that it can be removed
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "secret"), 0o755) })
	for name, want := range map[string]string{
		"secret/nginx.conf": "secret/nginx.conf: read configuration: permission denied",
		"file.conf":         "file.conf:3: read secret/a.conf: permission denied",
		"pattern.conf":      "pattern.conf:4: read secret/*.conf: permission denied",
	} {
		var err error
		withoutCapabilities(t, func() { // of this thread
			err = newLoader(Options{Resolve: names}).read(filepath.Join(dir, name))
		})
		e, ok := errors.AsType[*Error](err)
		if !ok || strings.ReplaceAll(e.Error(), dir+"/", "") != want ||
			!strings.HasPrefix(e.Hint(), "run as root") {
			t.Errorf("got %v, want %s, with a hint", err, want)
		}
	}
}
