"""How clients and servers train, one section of a scenario a file."""
