package plus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// answers are those of an API, by path. (The shape is that of NGINX's reference
// of ngx_http_api_module; no NGINX Plus was asked.)
type answers map[string]string

func (a answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, ok := a[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if strings.HasPrefix(text, "/") {
		http.Redirect(w, r, text, http.StatusFound)
		return
	}
	fmt.Fprint(w, text)
}

const nginxObject = `{"version":"1.29.0","build":"nginx-plus-r35","address":"127.0.0.1","generation":7,` +
	`"load_timestamp":"2026-11-30T06:12:45.123Z","timestamp":"2026-11-30T07:00:00.000Z","pid":812,"ppid":800}`

func TestAsk(t *testing.T) {
	want := Answer{7, time.Date(2026, 11, 30, 6, 12, 45, 123e6, time.UTC), 812, 800}
	good := answers{"/api/": "[1,2,10,9]", "/api/10/nginx": nginxObject}
	for _, tt := range []struct {
		name    string
		answers answers
		err     string
	}{
		{"good", good, ""},
		{"no API", answers{}, "404 Not Found"},
		{"a page", answers{"/api/": "<html>"}, "not an answer of the API"},
		{"no version", answers{"/api/": "[]"}, "names no version"},
		{"another object", answers{"/api/": "[9]", "/api/9/nginx": "{}"}, "names no master"},
		{"a redirect", answers{"/api/": "/else", "/else": "[9]"}, "302 Found"},
	} {
		s := httptest.NewServer(tt.answers)
		got, err := Ask(t.Context(), s.URL+"/api/")
		s.Close()
		if tt.err == "" && (err != nil || got != want) ||
			tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %+v, %v, want %q", tt.name, got, err, tt.err)
		}
	}
	socket := filepath.Join(t.TempDir(), "api")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(good)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	if got, err := Ask(t.Context(), "http://unix:"+socket+":/api"); err != nil || got != want {
		t.Errorf("by a unix socket: %+v, %v", got, err)
	}
}

// TestAskBounds: a server cannot make an answer, or an error about it, large.
func TestAskBounds(t *testing.T) {
	long := strings.Repeat(" ", 1<<20) + "1"
	for what, answer := range map[string]http.HandlerFunc{
		"head": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("A", strings.Repeat("1", 1<<20))
			answers{"/": "[1]", "/1/nginx": nginxObject}.ServeHTTP(w, r)
		},
		"body": answers{"/": "[" + long + "]", "/1/nginx": nginxObject}.ServeHTTP,
		"time": answers{"/": "[1]", "/1/nginx": `{"load_timestamp":"` +
			long[1<<20-1<<15:] + `"}`}.ServeHTTP,
		"reason": func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := http.NewResponseController(w).Hijack()
			fmt.Fprintf(c, "HTTP/1.1 403 %s\r\n\r\n", long[1<<20-1<<15:])
			c.Close()
		}} {
		s := httptest.NewServer(answer)
		_, err := Ask(t.Context(), s.URL)
		s.Close()
		if err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %.400v", what, err)
		}
	}
}

// TestAskEnds: Ask gives up an API that does not answer, with the context.
func TestAskEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it accepts nothing
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Ask(ctx, "http://"+l.Addr().String()+"/api")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCheck(t *testing.T) {
	for address, want := range map[string]string{
		"http://127.0.0.1:8080/api":     "",
		"https://[::1]/api/":            "",
		"http://unix:/run/a.sock:/api":  "",
		"http://unix:run/a.sock:/api":   "is not the address",
		"127.0.0.1:8080":                "is not the address",
		"ftp://127.0.0.1/api":           "is not the address",
		"http:///api":                   "is not the address",
		"http://me:secret@127.0.0.1/":   "no user",
		"http://127.0.0.1/api?x=secret": "no user, query",
	} {
		err := Check(address)
		if (want == "") != (err == nil) || err != nil &&
			(!strings.Contains(err.Error(), want) ||
				strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}
