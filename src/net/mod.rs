//! Sockets, the event loop, and the pump between stdio and a session.
