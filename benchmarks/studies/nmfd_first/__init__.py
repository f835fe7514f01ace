"""Study: a network that corrects the masks of blind NMFD. docs/research-log.md has the protocol."""
