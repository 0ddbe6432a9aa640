package nginxconf

import (
	"path/filepath"
	"testing"
)

func TestRestart(t *testing.T) {
	for _, tt := range []struct{ was, is, want string }{
		{"listen 10.0.0.1:80;", "listen 80;", "80 after 10.0.0.1:80"},
		{"listen 80;", "listen 10.0.0.1:80;", "10.0.0.1:80 after 80"},
		{"listen 80;", "listen 80; listen 10.0.0.1:80;", ""}, // one socket, as before
		{"listen 10.0.0.1:80;", "listen 10.0.0.2:80; listen 81;", ""},
		{"listen 10.0.0.1:80;", "listen [::]:80;", ""},
		{"listen 10.0.0.1:80;", "listen [::]:80 ipv6only=off;", "[::]:80 after 10.0.0.1:80"},
		{"listen [2001:db8::1]:80;", "listen [::]:80;", "[::]:80 after [2001:db8::1]:80"},
		{"listen 80 reuseport;", "listen 10.0.0.1:80 reuseport;", ""},
		{"listen [::]:80 ipv6only=off;", "listen 80; listen [::]:80;", "80 after [::]:80"},
		{"listen 80;", "listen [::]:80 ipv6only=off;", "[::]:80 after 80"},
		{"listen 443 quic;", "listen 10.0.0.1:443 quic;", ""},
		{"listen 8000-8010;", "listen 10.0.0.1:8005;", "10.0.0.1:8005 after 8000-8010"},
	} {
		load := func(listens string) Config {
			dir := write(t, "-- nginx.conf --\nevents {} http { server { "+
				listens+" } }\n")
			c, err := Load(filepath.Join(dir, "nginx.conf"),
				Options{Resolve: names})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		got := ""
		if is, was, needed := load(tt.is).Restart(load(tt.was)); needed {
			got = is.Text + " after " + was.Text
		}
		if got != tt.want {
			t.Errorf("from %s to %s: got %q, want %q", tt.was, tt.is, got, tt.want)
		}
	}
}
