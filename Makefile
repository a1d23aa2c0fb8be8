# make check    everything that has to hold before a change goes in
# make install  programs and manual pages, under $(DESTDIR)$(PREFIX)
PREFIX = /usr/local
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man
CARGO = cargo
INSTALL = install
PROGRAMS = ac-discover ac-keygen ac-listen ac-relay ac-send

.PHONY: all check install uninstall

all:
	$(CARGO) build --release --locked

check:
	.ci/run

# Does not build, so that `make && sudo make install` compiles nothing as root.
install:
	$(INSTALL) -d "$(DESTDIR)$(BINDIR)"
	set -e; for program in $(PROGRAMS); do \
		$(INSTALL) -m 755 "target/release/$$program" "$(DESTDIR)$(BINDIR)/$$program"; \
	done
	set -e; for page in man/*.[157]; do \
		section=$${page##*.}; \
		$(INSTALL) -d "$(DESTDIR)$(MANDIR)/man$$section"; \
		$(INSTALL) -m 644 "$$page" "$(DESTDIR)$(MANDIR)/man$$section/$${page##*/}"; \
	done

uninstall:
	for program in $(PROGRAMS); do rm -f "$(DESTDIR)$(BINDIR)/$$program"; done
	for page in man/*.[157]; do rm -f "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}"; done
