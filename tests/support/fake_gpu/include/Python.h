/* Of no use to a compiler: it is only looked for. */
