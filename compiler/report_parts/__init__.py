"""What compiler.report is made of: words for numbers, the terminal table, charts, the page."""
