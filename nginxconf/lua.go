package nginxconf

// luaBlock ends the names of OpenResty's directives that hold Lua. A brace in
// `-- }`, `"\""` or `[[ } ]]` does not end such a block.
const luaBlock = "_by_lua_block"

// skipLua skips from behind the brace that opens a Lua block to behind the one
// that closes it. The Lua itself does not matter.
func (s *scanner) skipLua() error {
	opened := s.line
	for depth := 1; depth > 0; {
		switch s.next() {
		case 0:
			return s.premature(opened)
		case '{':
			depth++
		case '}':
			depth--
		case '"':
			s.skipString('"')
		case '\'':
			s.skipString('\'')
		case '[':
			s.skipLong()
		case '-':
			s.skipComment()
		}
	}
	return nil
}

// next returns the next byte and moves on; 0 at the end of the file.
func (s *scanner) next() byte {
	c := s.peek()
	if c == '\n' {
		s.line++
	}
	if c != 0 {
		s.at++
	}
	return c
}

func (s *scanner) skipString(quote byte) {
	for c := s.next(); c != 0 && c != quote; c = s.next() {
		if c == '\\' {
			s.next()
		}
	}
}

// skipLong skips `[[ … ]]` or `[==[ … ]==]` from behind its first bracket; a
// plain `[` skips nothing.
func (s *scanner) skipLong() bool {
	level, opened := s.level('[')
	if !opened {
		return false
	}
	for c := s.next(); c != 0; c = s.next() {
		if c != ']' {
			continue
		}
		if n, closed := s.level(']'); closed && n == level {
			break
		} else if closed {
			s.at-- // this bracket may begin the next try
		}
	}
	return true
}

// level skips `=` any number of times and a bracket, and counts the former. It
// skips nothing else.
func (s *scanner) level(bracket byte) (n int, ok bool) {
	for s.peek() == '=' {
		n++
		s.at++
	}
	if s.peek() != bracket {
		return n, false
	}
	s.at++
	return n, true
}

// skipComment skips `-- …` or `--[[ … ]]` from behind its first dash.
func (s *scanner) skipComment() {
	if s.peek() != '-' {
		return
	}
	s.at++
	if s.peek() == '[' {
		s.at++
		if s.skipLong() {
			return
		}
	}
	for c := s.next(); c != 0 && c != '\n'; c = s.next() {
	}
}
