package nginxconf

import (
	"strings"

	"github.com/nginxinc/nginx-go-crossplane"
)

// luaBlocks are the directives of OpenResty that hold Lua.
var luaBlocks = []string{
	"access_by_lua_block", "balancer_by_lua_block", "body_filter_by_lua_block",
	"content_by_lua_block", "exit_worker_by_lua_block", "header_filter_by_lua_block",
	"init_by_lua_block", "init_worker_by_lua_block", "log_by_lua_block",
	"precontent_by_lua_block", "preread_by_lua_block", "proxy_ssl_certificate_by_lua_block",
	"proxy_ssl_verify_by_lua_block", "rewrite_by_lua_block", "server_rewrite_by_lua_block",
	"set_by_lua_block", "ssl_certificate_by_lua_block", "ssl_client_hello_by_lua_block",
	"ssl_session_fetch_by_lua_block", "ssl_session_store_by_lua_block",
}

// lua skips Lua blocks for crossplane. Crossplane's own lexer takes the brace
// in `-- }`, `"\""` or `[[ } ]]` for the end of the block, and listens behind
// it land in the wrong block.
type lua struct{}

// Lex reads from behind the name of a directive to the brace that closes its
// block, and gives the arguments before the block and an empty directive end.
// The Lua itself is of no interest.
func (lua) Lex(s *crossplane.SubScanner, _ string) <-chan crossplane.NgxToken {
	// Buffered for all tokens there can be, so that no goroutine is needed.
	tokens := make(chan crossplane.NgxToken, 2)
	defer close(tokens)
	arg, opened := luaArg(s)
	if arg != "" {
		tokens <- crossplane.NgxToken{Value: arg, Line: s.Line()}
	}
	if line := s.Line(); opened && !luaBody(s) {
		what := crossplane.ErrPrematureLexEnd.Error()
		tokens <- crossplane.NgxToken{Error: &crossplane.ParseError{What: what,
			Line: &line}}
		return tokens
	}
	tokens <- crossplane.NgxToken{Value: ";", Line: s.Line()}
	return tokens
}

// luaArg returns what stands before the block, as in `set_by_lua_block $x {`;
// opened is false where a semicolon or the end of the file comes before a
// block.
func luaArg(s *crossplane.SubScanner) (arg string, opened bool) {
	var b strings.Builder
	for s.Scan() {
		c := s.Text()
		if opened = c == "{"; opened || c == ";" {
			break
		}
		b.WriteString(c)
	}
	return strings.TrimSpace(b.String()), opened
}

// luaBody skips to the closing brace of the block.
func luaBody(s *crossplane.SubScanner) bool {
	r := luaReader{s: s}
	for depth := 1; depth > 0; {
		c := r.next()
		switch c {
		case "":
			return false
		case "{":
			depth++
		case "}":
			depth--
		case `"`, "'":
			r.skipString(c)
		case "[":
			r.skipLong()
		case "-":
			r.skipComment()
		}
	}
	return true
}

// luaReader reads characters and can take one back.
type luaReader struct {
	s    *crossplane.SubScanner
	kept string
}

// next returns the next character, "" at the end.
func (r *luaReader) next() string {
	if c := r.kept; c != "" {
		r.kept = ""
		return c
	}
	if !r.s.Scan() {
		return ""
	}
	return r.s.Text()
}

func (r *luaReader) skipString(quote string) {
	for c := r.next(); c != "" && c != quote; c = r.next() {
		if c == `\` {
			r.next()
		}
	}
}

// skipLong skips `[[ … ]]` or `[==[ … ]==]` from behind its first bracket; a
// plain `[` skips nothing.
func (r *luaReader) skipLong() bool {
	level, opened := r.level("[")
	if !opened {
		return false
	}
	for c := r.next(); c != ""; c = r.next() {
		if c != "]" {
			continue
		}
		if n, closed := r.level("]"); closed && n == level {
			break
		} else if closed {
			r.kept = "]" // it may begin the next try
		}
	}
	return true
}

// level skips `=` any number of times and a bracket, and counts the former.
// What is no such bracket is kept.
func (r *luaReader) level(bracket string) (n int, ok bool) {
	c := r.next()
	for ; c == "="; c = r.next() {
		n++
	}
	if c != bracket {
		r.kept = c
	}
	return n, c == bracket
}

// skipComment skips `-- …` or `--[[ … ]]` from behind its first dash.
func (r *luaReader) skipComment() {
	c := r.next()
	if c != "-" {
		r.kept = c
		return
	}
	c = r.next()
	if c == "[" && r.skipLong() {
		return
	}
	if c != "[" {
		r.kept = c
	}
	for c = r.next(); c != "" && c != "\n"; c = r.next() {
	}
}
