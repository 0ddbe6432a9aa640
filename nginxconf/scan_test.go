package nginxconf

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestScan: what matters is kept as NGINX reads it, with its lines.
func TestScan(t *testing.T) {
	for _, tt := range []struct{ name, file, want, err string }{
		{"what matters", "events {\n}\nhttp {\n gzip on;\n server {\n  listen 80; # ;\n  root /x;\n }\n}", "1:events {|3:}http {|5:server {|6:listen 80 ;|}}", ""},
		{"blocks that say nothing", "http { types { a b; } map $a $b { c d; } server { location / { index i; } } }", "1:http {|1:server {|}}", ""},
		{"quotes and braces", `listen "80"; server_name a}b 'c d' "e;f" $host} ${x}y; a_pass '$x{';`, `1:listen "80" ;|1:server_name "a}b" 'c d' "e;f" "$host}" "${x}y" ;|1:a_pass '$x{' ;`, ""},
		{"a brace behind a word that ends with a dollar", "location ~ a$ { listen 1; }", "1:location ~ a$ {|1:listen 1 ;|}", ""},
		{"a comment where an argument could be, and inside of a word", "listen # a;\n 80#b;\n", "1:listen 80#b ;", ""},
		{"carriage returns", "listen\r\n80\r;\r\nlisten 81;", "1:listen 80 ;|3:listen 81 ;", ""},
		{"words over several lines", "listen\n80;\nserver_name 'a\nb';\nlisten 81;", "1:listen 80 ;|3:server_name 'a|3:b' ;|5:listen 81 ;", ""},
		{"escapes", `listen a\ b; return "\"}"; listen c\;d;`, `1:listen a\ b ;|1:listen c\;d ;`, ""},
		{"a quote inside of a word is none", `listen a"b c"; listen 1;`, `1:listen a"b c" ;|1:listen 1 ;`, ""},
		{"Lua", "init_by_lua_block{ -- }\n local s = '}' .. [==[ } ]=] ]==] .. \"\\\"}\" --[[ }\n ]] }\nlisten 80;", "4:listen 80 ;", ""},
		{"Lua with an argument", "set_by_lua_block $x {\n return 1 - 2 [1] } listen 80;", "2:listen 80 ;", ""},
		{"no end of a directive", "listen 80", "", "1: premature end of file"},
		{"no end of a block", "\nhttp {\n", "", `3: unexpected end of file, expecting "}" for the block of line 2`},
		{"no end of a quote", "a;\nlisten '80;\n}", "", "2: premature end of file"},
		{"no end of Lua", "a_by_lua_block {\n{ }\n", "", "1: premature end of file"},
		{"a brace too many", "a {\n} }", "", `2: unexpected "}"`},
		{"no semicolon", "a {\nb\n}", "", `2: the directive is not terminated by ";"`},
		{"nothing before a semicolon", "a;\n;", "", `2: unexpected ";"`},
		{"a letter behind a quote", `listen "80"81;`, "", "1: a space is missing behind a quote"},
		{"a word that is too long", "a;\nb " + strings.Repeat("c", 4096) + ";", "", "2: a word of more than 4095 bytes, which NGINX refuses"},
		{"the longest word", "b " + strings.Repeat("c", 4095) + ";", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := scan("f", []byte(tt.file))
			if err != nil {
				if got := strings.TrimPrefix(err.Error(), "f:"); got != tt.err {
					t.Errorf("got %s, want %s", got, tt.err)
				}
				return
			}
			if d := cmp.Diff(tt.want, s.numbered()); d != "" || tt.err != "" {
				t.Errorf("want error %q, -want +got\n%s", tt.err, d)
			}
		})
	}
}

// numbered is the text with the number that each of its lines has in the file.
func (s *scanner) numbered() string {
	var b strings.Builder
	for n, line := range strings.Split(string(s.text), "\n") {
		if n < len(s.lines) {
			fmt.Fprintf(&b, "%d:", s.lines[n])
		}
		b.WriteString(line + "|")
	}
	return strings.TrimRight(b.String(), "|")
}

// FuzzScan: what is kept of a file is kept again from the result; it can be
// parsed; and neither takes more than 20 µs a byte, ten times what a busy
// machine takes.
func FuzzScan(f *testing.F) {
	for _, s := range []string{"events {}", "http { server { listen 80; } }", "a {", "}",
		`listen "a\"b" 'c' ${d}e} f#g;` + "\r\n# h\n", "x_by_lua_block { [[ } ]] -- }\n }",
		"a_by_lua_block $b{'}'}", "listen \\;;", "\"", "a$ {listen $;}", "if ($a) { a_pass b; }",
		"map $a $b { include c; listen d; }", "listen '\n';", "a]==[[b", "\\listen 80;"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkText("f", data) != nil {
			return
		}
		s, err := scan("f", data)
		if err != nil {
			last := 1 + bytes.Count(data, []byte("\n"))
			if e, ok := err.(*Error); !ok || e.Line < 1 || e.Line > last ||
				e.Hint() == "" {
				t.Fatalf("no line or hint: %v", err)
			}
		} else {
			again, err := scan("f", s.text)
			if err != nil || !bytes.Equal(again.text, s.text) {
				t.Fatalf("%q becomes %q becomes %q, %v", data, s.text,
					again.text, err)
			}
		}
		const size = 1 << 16
		large := bytes.Repeat(append(data, '\n'), 1+size/(len(data)+1))
		start := time.Now()
		_, _, _, _ = parse("f", large)
		if took := time.Since(start); took > 20*time.Microsecond*time.Duration(len(large)) {
			t.Fatalf("%d times %q takes %v", len(large)/(len(data)+1), data, took)
		}
	})
}

// TestMisspelt: one slip of a finger makes a misspelt listen, and no directive
// of NGINX is one.
func TestMisspelt(t *testing.T) {
	for _, name := range []string{"lisen", "listn", "isten", "liste", "listten", "listenn",
		"lixten", "lsiten", "listne", "Listen"} {
		if !misspelt(name) {
			t.Errorf("%s is not misspelt", name)
		}
	}
	for _, name := range []string{"", "listen", "l", "listener", "lessen", "silent", "listen_x",
		"lua_listen", "limit_req", "listenlisten"} {
		if misspelt(name) {
			t.Errorf("%s is misspelt", name)
		}
	}
}
